"""Contracts: the good ones are read whole, and each way of getting one wrong is refused with file, line and reason."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampan.contracts import registry
from sampan.contracts.model import FEEDS as FOLDER
from sampan.contracts.parse import parse_contract
from sampan.contracts.registry import all_contracts
from sampan.contracts.validate import check, check_all
from sampan.errors import PermanentFailure, Problem

from tests.factory import FEEDS

GOOD = FOLDER / "customs_declarations.yaml"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_every_contract_file_is_a_feed_and_is_in_order():
    assert len(FILES) == len(FEEDS) >= 10
    assert [file.stem for file in FILES] == sorted(FEEDS)
    assert check_all() == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_contract_is_short_and_has_each_column_on_a_line_of_its_own(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 90
    document = yaml.safe_load(text)
    columns = document["schema"][0]["properties"]
    lines = re.findall(r"^ +- \{name: ([a-z0-9_]+), (?:physicalName: .*, )?logicalType", text, re.MULTILINE)
    assert lines == [column["name"] for column in columns]


@pytest.mark.parametrize("feed", FEEDS)
def test_a_contract_says_all_that_the_platform_derives_from_it(feed):
    contract = all_contracts()[feed]
    document = yaml.safe_load(contract.path.read_text())
    assert contract.key
    assert len(contract.columns) == len(document["schema"][0]["properties"])
    rules = document["schema"][0]["quality"]
    assert Counter(rule["name"] for rule in rules) == Counter(
        rule.name for rule in (*contract.row_rules, *contract.batch_rules)
    )
    assert contract.owner
    assert "@" in contract.contact
    assert contract.retention_days >= 365
    assert 0 < contract.budget <= 0.1
    assert contract.calendar.timezone == "Asia/Hong_Kong"
    assert all(column.description for column in contract.columns)
    for column in contract.columns:
        if column.name.endswith(("_hkd", "_cny", "_pct")):
            assert column.unit, f"{column.name}: a number needs its unit"


@pytest.mark.parametrize("feed", FEEDS)
def test_a_text_key_is_bounded_so_that_an_index_can_hold_it(feed):
    contract = all_contracts()[feed]
    for name in contract.key:
        column = contract.column(name)
        assert column.type != "text" or column.enum or {"pattern", "maxLength"} & column.options.keys(), name


# Each: what is changed in the good contract (text, by what), the rule that refuses it, words of the reason, and text that
# stands on the line that is named, None where nothing stands there any more.
WRONG = [
    ("id: customs_declarations", "id: customs", "contract.id", "differs from the file's name", "id: customs"),
    ("status: active", "status: [active", "contract.yaml", "expected", None),
    ("kind: DataContract", "kind: Thing", "contract.standard", "kind", "kind: Thing"),
    ("version: 1.0.0", "versio: 1.0.0", "contract.standard", "versio", None),
    ("domain: customs\n", "", "contract.missing", "domain", None),
    ("  purpose: Declaration", "  purpos: Declaration", "contract.missing", "description.purpose", None),
    ("name: version,", "name: Version,", "contract.column", "not lower snake case", "name: Version"),
    ("name: line_no,", "name: version,", "contract.column", "stands twice", "primaryKeyPosition: 3"),
    ("name: packages, logicalType: integer", "name: packages, logicalType: object", "contract.standard", "",
     "name: packages"),
    ("name: packages, logicalType: integer", "name: packages, logicalType: money", "contract.standard", "money",
     "name: packages"),
    (", description: Number of packages.", "", "contract.missing", "packages: description", "name: packages"),
    ("primaryKeyPosition: 2, ", "", "contract.key", "primaryKeyPosition is missing", "name: version"),
    ('required: true, logicalTypeOptions: {pattern: "^[A-Z0-9]{10,16}$"}', "required: true", "contract.key",
     "needs a pattern", "name: declaration_no"),
    ("primaryKeyPosition: 2, required: true", "primaryKeyPosition: 2", "contract.key", "key column is required",
     "name: version"),
    ("{property: personalDataPattern, value: hkid}", "{property: personalDataPatern, value: hkid}",
     "contract.unknown_property", "personalDataPatern", "name: trader_id"),
    ("{property: personalData, value: pseudonymise}", "{property: personalData, value: hash}", "contract.personal_data",
     "none, drop, pseudonymise", "name: trader_id"),
    ("{property: personalData, value: pseudonymise}", "{property: personalData, value: none}", "contract.personal_data",
     "is pseudonymised", "name: trader_id"),
    ("{property: personalDataPattern, value: hkid}", "{property: personalDataPattern, value: phone}",
     "contract.personal_data", "is hkid", "name: trader_id"),
    ('{pattern: "^[0-9]{8}$"}, description: "Hong Kong Harm', '{pattern: "^[0-9{8}$"}, description: "Hong Kong Harm',
     "contract.pattern", "does not compile", "name: hkhs_code"),
    ("logicalTypeOptions: {maxLength: 512}", "logicalTypeOptions: {minimum: 5}", "contract.standard", "minimum",
     "name: goods_description"),
    ('{minimum: "2012-01-01", maximum', '{minimum: "2012-13-01", maximum', "contract.option", "is not a date",
     "name: movement_date"),
    ("implementation: movement_date <= business_date + 14", "implementation: movement_date <= <= 14",
     "contract.predicate", "not SQL", "name: moved_before_lodgement"),
    ("implementation: movement_date <= business_date + 14", "implementation: moved_on <= business_date + 14",
     "contract.predicate", "no column 'moved_on'", "name: moved_before_lodgement"),
    ("implementation: movement_date <= business_date + 14",
     'implementation: "movement_date <= (select max(business_date) from ops.batch)"', "contract.predicate",
     "its own row only", "name: moved_before_lodgement"),
    ("implementation: movement_date <= business_date + 14", 'implementation: "true; drop table ops.batch"',
     "contract.predicate", "", "name: moved_before_lodgement"),
    ("implementation: movement_date <= business_date + 14", "implementation: pg_sleep(10) is not null",
     "contract.predicate", "pg_sleep", "name: moved_before_lodgement"),
    ("name: counterparty_is_abroad,", "name: moved_before_lodgement,", "contract.rule", "stands twice",
     "counterparty_country <> '690'"),
    ("engine: row, severity: error, implementation: counterparty", "engine: spark, severity: error, implementation: "
     "counterparty", "contract.rule", "engine is row or greatExpectations", "counterparty_is_abroad"),
    ("severity: error, implementation: counterparty", "severity: grave, implementation: counterparty", "contract.rule",
     "severity is one of", "counterparty_is_abroad"),
    ("type: unexpected_rows_expectation", "type: expect_wonders", "contract.expectation",
     "no expectation 'expect_wonders'", "exports_are_present"),
    ("from {batch} where form_type", "from {batch} where from_type", "contract.expectation", "no column 'from_type'",
     "exports_are_present"),
    ("(select 1 from {batch} where", "(select 1 from ops.batch where", "contract.expectation", "reads ops.batch",
     "exports_are_present"),
    ("select 1 as absent where not exists", "delete from {batch} where not exists", "contract.expectation", "not a query",
     "exports_are_present"),
    ("select 1 as absent where not exists", "select 1 as absent whre not exists", "contract.expectation", "not SQL",
     "exports_are_present"),
    ("select 1 as absent where", "select pg_sleep(9) as absent where", "contract.expectation", "pg_sleep",
     "exports_are_present"),
    ('{type: unexpected_rows_expectation, kwargs: {unexpected_rows_query: "select 1 as absent where not exists (select 1'
     ' from {batch} where form_type = \'2\')"}}', "{type: expect_column_max_to_be_between, kwargs: {column: from_type}}",
     "contract.expectation", "no column 'from_type'", "exports_are_present"),
    ("metric: rowCount, mustBeBetween", "metric: nullValues, mustBeBetween", "contract.rule", "only rowCount",
     "row_count_in_band"),
    ("type: s3,", "type: kafka,", "contract.standard", "", "server: drop"),
    ("format: csv,", "format: dbf,", "contract.server", "format is one of", "server: drop"),
    ("value: gzip}", "value: rar}", "contract.server", "compression is one of", "server: drop"),
    ("value: utf-8}", "value: utf-9}", "contract.server", "unknown encoding", "server: drop"),
    ("value: utf-8}", "value: utf-16}", "contract.server", "other bytes than ASCII", "server: drop"),
    ("value: utf-8}", "value: cp037}", "contract.server", "other bytes than ASCII", "server: drop"),
    ('delimiter: ","', 'delimiter: ";;"', "contract.server", "not one character", "server: drop"),
    ("delimiter: \",\"", "delimiter: '\"'", "contract.server", "not one character", "server: drop"),
    ('{pattern: "^[0-9]{8}$"}, description: "Hong Kong Harm', '{pattern: "^[0-9]{1,2000}$"}, description: "Hong Kong Harm',
     "contract.pattern", "counts to 255", "name: hkhs_code"),
    ("{property: compression, value: gzip}", "{property: compresion, value: gzip}", "contract.unknown_property",
     "compresion", "server: drop"),
    ("s3://drop/customs/", "s3://elsewhere/customs/", "contract.server", "follows from domain and id", "server: drop"),
    ("domain: customs\n", "domain: harbour\n", "contract.server", "s3://drop/harbour/", "server: drop"),
    ('{minimum: "2012-01-01", maximum', '{format: "dd/MM/yyyy", maximum', "contract.option", "'format' means nothing",
     "name: movement_date"),
    ("logicalType: timestamp,", "logicalType: timestamp, logicalTypeOptions: {timezone: false},", "contract.option",
     "'timezone' means nothing", "name: lodged_at"),
    ("domain: customs\n", "domain: customs\ndomain: customs\n", "contract.yaml", "'domain' stands twice",
     "domain: customs"),
    ("empty: hold", "empty: hold, missing: accept", "contract.yaml", "'missing' stands twice", "property: calendar"),
    ("{days: business,", "{days: workdays,", "contract.calendar", "calendar.days is", "property: calendar"),
    ('due: "07:30"', 'due: "7.30"', "contract.calendar", "HH:MM", "property: calendar"),
    ('due: "07:30"', "due: 18:30", "contract.calendar", "HH:MM", "property: calendar"),
    ("timezone: Asia/Hong_Kong", "timezone: Asia/Kowloon", "contract.calendar", "timezone", "property: calendar"),
    ("missing: late, empty: hold", "missing: late", "contract.calendar", "calendar.empty", "property: calendar"),
    ("empty: hold", "empty: maybe", "contract.calendar", "hold or accept", "property: calendar"),
    ("{property: rejectionBudget, value: 0.05}", "{property: rejectionBudget, value: 5}", "contract.budget", "0 to 1",
     "property: rejectionBudget"),
    ("{property: rejectionBudget, value: 0.05}", "{property: rejectionBudget, value: true}", "contract.budget", "0 to 1",
     "property: rejectionBudget"),
    ("  - {property: rejectionBudget, value: 0.05}\n", "", "contract.missing", "rejectionBudget is missing", None),
    ("policy: add_nullable", "policy: add", "contract.drift", "one of", "property: schemaDrift"),
    ("to: hkhs_code", "to: hs", "contract.drift", "an alias has", "property: schemaDrift"),
    ('since: "2026-07-20"', 'since: "20 July"', "contract.drift", "since", "property: schemaDrift"),
    ("policy: versioned", "policy: overwrite", "contract.corrections", "one of", "property: corrections"),
    (", versionColumn: version", "", "contract.corrections", "versionColumn goes", "property: corrections"),
    ("versionColumn: version", "versionColumn: revision", "contract.corrections", "no column 'revision'",
     "property: corrections"),
    ("value: 7, unit: y", "value: 7, unit: decades", "contract.retention", "one retention", "slaProperties"),
    ("value: 7, unit: y", "value: long, unit: y", "contract.retention", "", "slaProperties"),
    ("property: retention", "property: latency", "contract.retention", "one retention", "slaProperties"),
    ("members: [{username: trade-data@customs.example, role: owner}]", "members: []", "contract.missing", "team", "team:"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "rule", "reason", "line"), WRONG, ids=[f"{o[:30]}->{n[:30]}" for o, n, *_ in WRONG]
)
def test_check_refuses_with_file_line_and_reason_when_a_contract_is_wrong(old, new, rule, reason, line, tmp_path):
    text = GOOD.read_text()
    assert old in text
    file = tmp_path / GOOD.name
    file.write_text(text.replace(old, new, 1))
    problems = check(file)
    chosen = [problem for problem in problems if problem.rule == rule and reason in problem.message]
    assert chosen, [str(problem) for problem in problems]
    assert all(problem.file == str(file) for problem in problems)
    assert all(problem.line for problem in problems)
    if line is not None:
        # A list's line is that of its first entry, which may be the next one.
        lines = file.read_text().splitlines()
        near = lines[chosen[0].line - 2] + lines[chosen[0].line - 1]
        assert line in near, chosen[0]


def test_load_all_refuses_the_folder_when_one_contract_is_wrong(tmp_path):
    for file in FILES:
        (tmp_path / file.name).write_text(file.read_text())
    assert list(all_contracts(tmp_path)) == sorted(FEEDS)
    wrong = tmp_path / "zz.yaml"
    wrong.write_text("id: zz\n")
    registry._all_contracts.cache_clear()
    with pytest.raises(PermanentFailure) as refused:
        all_contracts(tmp_path)
    assert refused.value.problem.file == str(wrong)
    registry._all_contracts.cache_clear()


@pytest.mark.parametrize(
    "text", ["", "just text", "[1, 2]", "a: &a [*a]", "\x00", "a: b: c", "id: x\nid: y", "? [1]\n: 2"]
)
def test_check_gives_a_reason_and_no_stack_trace_when_a_file_is_no_contract(text, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    problems = check(file)
    assert problems
    assert all(problem.file == str(file) for problem in problems)


def test_check_gives_a_reason_when_a_file_is_not_text_or_not_there(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert check(file)[0].rule == "contract.yaml"
    assert check(Path("no/such.yaml"))[0].rule == "contract.unreadable"


def test_check_all_and_load_all_refuse_an_empty_folder_by_name(tmp_path):
    expected = Problem("contract.none", "no contract found", str(tmp_path))
    assert check_all(tmp_path) == [expected]
    with pytest.raises(PermanentFailure) as refused:
        all_contracts(tmp_path)
    assert refused.value.problem == expected


def _places(node: object, path: tuple = ()) -> list[tuple]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] * bool(path) + [place for key, child in children for place in _places(child, (*path, key))]


PLACES = _places(yaml.safe_load(GOOD.read_text()))


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    place=st.sampled_from(PLACES), other=st.sampled_from([None, "", "x", 0, -1, [], ["x"], {}, {"x": 1}, True, "gone"])
)
def test_check_refuses_or_the_contract_can_be_read_when_any_part_of_it_is_another(place, other, tmp_path):
    document = yaml.safe_load(GOOD.read_text())
    *above, last = place
    inner = document
    for step in above:
        inner = inner[step]
    if other == "gone":
        del inner[last]
    else:
        inner[last] = other
    file = tmp_path / GOOD.name
    file.write_text(yaml.safe_dump(document))
    if check(file) == []:
        parse_contract(document, file)
