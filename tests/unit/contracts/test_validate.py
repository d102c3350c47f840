"""Contracts: the good ones are read whole, and each way of getting one wrong is refused with file, line and reason."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sampan.contracts import registry, shorthand
from sampan.contracts.derive import odcs
from sampan.contracts.model import FEEDS as FOLDER
from sampan.contracts.model import PARTNERS
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


def test_contracts_are_readable():
    """Facts are counted, not characters: a column needs few, and a line holds one that can be read at a glance."""
    written = {file.stem: yaml.safe_load(file.read_text()) for file in FILES}
    facts = {
        feed: [len(column) for column in document["schema"][0]["properties"]] for feed, document in written.items()
    }
    assert max(max(counts) for counts in facts.values()) <= 10
    assert all(statistics.mean(counts) <= 8 for counts in facts.values())
    assert max(len(line) for file in FILES for line in file.read_text().splitlines()) <= 120
    assert statistics.median(len(file.read_text().splitlines()) for file in FILES) <= 140


def test_the_expanded_document_is_a_contract_of_the_same_facts(tmp_path):
    for file in FILES:
        expanded = tmp_path / file.name
        expanded.write_text(odcs(all_contracts()[file.stem]))
        assert check(expanded) == []
        assert replace(parse_contract(shorthand.read(expanded), expanded), path=file) == all_contracts()[file.stem]
        assert yaml.safe_load(expanded.read_text()) == shorthand.read(expanded)


@pytest.mark.parametrize("feed", FEEDS)
def test_a_contract_says_all_that_the_platform_derives_from_it(feed):
    contract = all_contracts()[feed]
    document = shorthand.read(contract.path)
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


# Kind of fault: SQL of a contract that takes memory or time without bound, reads the server, or hides what follows it.
COSTLY = [
    ("repeat(goods_description, 1000000000) <> ''", "REPEAT"),
    ("lpad(goods_description, 1000000000) <> ''", "PAD"),
    ("power(value_hkd, 100000) > 1", "POWER"),
    ("value_hkd ^ 100000 > 1", "POWER"),
    ("sum(value_hkd) > 1", "SUM"),
    ("string_agg(goods_description, '') <> ''", "STRING_AGG"),
    ("row_number() over () > 1", "ROW_NUMBER"),
    ("generate_series(1, 1000000000) = 1", "GENERATE_SERIES"),
    ("unnest(array[1, 2]) = 1", "UNNEST"),
    ("regexp_split_to_table(goods_description, '') = ''", "regexp_split_to_table"),
    ("version() <> ''", "VERSION"),
    ("current_user <> ''", "CURRENT_USER"),
    ("goods_description::regclass is not null", "REGCLASS"),
    ("goods_description::char(10000000) <> ''", "CHAR(10000000)"),
    ("movement_date operator(public.=) business_date", "OPERATOR(public.=)"),
    ("movement_date is not null --", "comments are not allowed"),
    ("movement_date is not null /* and */", "comments are not allowed"),
    (r"goods_description <> e'\\'' -- '", "comments are not allowed"),
    ("movement_date in (select business_date)", "its own row only"),
    ("movement_date is not null limit 1", "one condition"),
    ("movement_date is not null group by 1", "one condition"),
]

# The same kind in queries: parts of a statement that write, lock, or call themselves, under a name that may be read.
HIDDEN = [
    ("with recursive batch as (select 1 as n union all select 1 from batch) select 1 as absent where", "WITH"),
    ("with batch as (delete from {batch} returning 1) select 1 as absent where", "DELETE"),
    ("with batch as (update {batch} set form_type = '' returning 1) select 1 as absent where", "UPDATE"),
    ("select 1 as absent into batch where", "INTO"),
]

# Each: what is changed in the good contract (text, by what), the rule that refuses it, words of the reason, and text that
# stands on the line that is named, None where nothing stands there any more.
WRONG = [
    ("id: customs_declarations", "id: customs", "contract.id", "differs from the file name", "id: customs"),
    ("status: active", "status: [active", "contract.yaml", "expected", None),
    ("status: active", "status: active\nkind: Thing", "contract.standard", "kind", "kind: Thing"),
    ("version: 1.0.0", "versio: 1.0.0", "contract.standard", "versio", None),
    ("domain: customs\n", "", "contract.missing", "domain", None),
    ("  purpose: Declaration", "  purpos: Declaration", "contract.missing", "description.purpose", None),
    ("name: conveyance", "name: Conveyance", "contract.column", "not lower snake case", "name: Conveyance"),
    ("name: conveyance", "name: place", "contract.column", "duplicate column 'place'", "name: place"),
    ("stagedAs: package_count", "stagedAs: Packages", "contract.column", "stagedAs 'Packages'", "name: packages"),
    ("identifies: enterprise_number", "identifies: person", "contract.column", "identifies must be one of",
     "name: trader_id"),
    ("Number of packages.\n        logicalType: integer", "N.\n        logicalType: object", "contract.standard", "",
     "logicalType: object"),
    ("Number of packages.\n        logicalType: integer", "N.\n        logicalType: money", "contract.standard", "money",
     "logicalType: money"),
    ("        description: Number of packages.\n", "", "contract.missing", "packages: description", "name: packages"),
    ("key: [declaration_no, version, line_no]", "primaryKey: true", "contract.standard", "primaryKey",
     "name: customs_declarations"),
    ("key: [declaration_no, version, line_no]", "key: [declaration_no, versions]", "contract.standard", "'key'",
     "name: customs_declarations"),
    ("key: [declaration_no, version, line_no]", "key: []", "contract.standard", "'key'", "name: customs_declarations"),
    ("    key: [declaration_no, version, line_no]\n", "", "contract.key", "no column is part of the primary key",
     "name: customs_declarations"),
    ("name: conveyance\n", "name: conveyance\n        primaryKey: true\n        required: true\n", "contract.key",
     "primaryKeyPosition is missing", "name: conveyance"),
    ("name: conveyance\n", "name: conveyance\n        primaryKey: true\n        primaryKeyPosition: 4\n", "contract.key",
     "key column must be required", "name: conveyance"),
    ("        pattern: ^[A-Z0-9]{10,16}$\n", "", "contract.key", "needs a pattern", "name: declaration_no"),
    ("personalData: hkid", "personalDat: hkid", "contract.standard", "personalDat", "name: trader_id"),
    ("personalData: hkid", "customProperties:\n          - property: personalDat\n            value: hkid",
     "contract.standard", "identifies", "name: trader_id"),
    ("        personalData: hkid\n        identifies: enterprise_number",
     "        customProperties:\n          - property: personalDat\n            value: hkid", "contract.unknown_property",
     "personalDat", "name: trader_id"),
    ("personalData: hkid", "personalData: hash", "contract.personal_data", "none, drop, pseudonymise", "name: trader_id"),
    ("personalData: hkid", "personalData: none\n        personalDataPattern: hkid", "contract.personal_data",
     "needs personalData: pseudonymise", "name: trader_id"),
    ("personalData: hkid", "personalData: pseudonymise\n        personalDataPattern: phone", "contract.personal_data",
     "is hkid", "name: trader_id"),
    ("pattern: ^[0-9]{8}$", "pattern: ^[0-9{8}$", "contract.pattern", "invalid regular expression", "name: agent_brn"),
    ("maxLength: 512", "minimum: 5", "contract.standard", "minimum", "minimum: 5"),
    ('between: ["2012-01-01", "2099', 'between: ["2012-13-01", "2099', "contract.option", "is not a date",
     "name: movement_date"),
    ('between: ["2012-01-01", "2099-12-31"]', 'between: ["2012-01-01"]', "contract.standard", "between",
     "name: movement_date"),
    ("row: movement_date <= business_date + 14", "row: movement_date <= <= 14", "contract.predicate", "not SQL",
     "name: moved_before_lodgement"),
    ("row: movement_date <= business_date + 14", "row: moved_on <= business_date + 14", "contract.predicate",
     "unknown column 'moved_on'", "name: moved_before_lodgement"),
    ("row: movement_date <= business_date + 14",
     'row: "movement_date <= (select max(business_date) from ops.batch)"', "contract.predicate",
     "its own row only", "name: moved_before_lodgement"),
    ("row: movement_date <= business_date + 14", 'row: "true; drop table ops.batch"',
     "contract.predicate", "", "name: moved_before_lodgement"),
    ("row: movement_date <= business_date + 14", "row: pg_sleep(10) is not null",
     "contract.predicate", "pg_sleep", "name: moved_before_lodgement"),
    *(("row: movement_date <= business_date + 14", f'row: "{predicate}"', "contract.predicate", said,
       "name: moved_before_lodgement") for predicate, said in COSTLY),
    ("where form_type = '2')", "where form_type = repeat('2', 1000000000))", "contract.expectation", "REPEAT",
     "name: exports_are_present"),
    ("(select 1 from {batch} where", "(select generate_series(1, 1000000000) from {batch} where", "contract.expectation",
     "GENERATE_SERIES", "name: exports_are_present"),
    ("name: counterparty_is_abroad", "name: moved_before_lodgement", "contract.rule", "duplicate rule name",
     "name: moved_before_lodgement"),
    ("row: counterparty", "engine: spark\n        type: custom\n        implementation: counterparty", "contract.rule",
     "engine must be row or greatExpectations", "counterparty_is_abroad"),
    ("row: counterparty", "engine: row\n        row: counterparty", "contract.standard", "row", "counterparty_is_abroad"),
    ("row: counterparty", "severity: grave\n        row: counterparty", "contract.rule",
     "severity must be one of", "counterparty_is_abroad"),
    ("type: unexpected_rows_expectation", "type: expect_wonders", "contract.expectation",
     "unknown expectation 'expect_wonders'", "name: exports_are_present"),
    ("from {batch} where form_type", "from {batch} where from_type", "contract.expectation", "unknown column 'from_type'",
     "name: exports_are_present"),
    ("(select 1 from {batch} where", "(select 1 from ops.batch where", "contract.expectation", "reads ops.batch",
     "name: exports_are_present"),
    ("select 1 as absent where not exists", "delete from {batch} where not exists", "contract.expectation", "not a query",
     "name: exports_are_present"),
    ("select 1 as absent where not exists", "select 1 as absent whre not exists", "contract.expectation", "not SQL",
     "name: exports_are_present"),
    ("select 1 as absent where", "select pg_sleep(9) as absent where", "contract.expectation", "pg_sleep",
     "name: exports_are_present"),
    *(("select 1 as absent where", query, "contract.expectation", said, "name: exports_are_present")
      for query, said in HIDDEN),
    ("kwargs:\n", "kwargs:\n            base_query: select pg_sleep(9)\n", "contract.expectation",
     "argument 'base_query' is not allowed", "name: exports_are_present"),
    ("kwargs:\n", "kwargs:\n            row_condition: pg_sleep(9) is null\n", "contract.expectation",
     "argument 'row_condition' is not allowed", "name: exports_are_present"),
    ("kwargs:\n", "kwargs:\n            column: from_type\n", "contract.expectation",
     "unknown column 'from_type'", "name: exports_are_present"),
    ("rowCount: [1, 10000000]", "metric: nullValues\n        type: library\n        mustBeBetween: [1, 2]", "contract.rule",
     "metric is rowCount", "row_count_in_band"),
    ("type: s3", "type: kafka", "contract.standard", "", "server: drop"),
    ("format: csv", "format: dbf", "contract.server", "format must be one of", "server: drop"),
    ("compression: gzip", "compression: rar", "contract.server", "compression must be one of", "server: drop"),
    ("encoding: utf-8", "encoding: utf-9", "contract.server", "unknown encoding", "server: drop"),
    ("encoding: utf-8", "encoding: utf-16", "contract.server", "not ASCII-compatible", "server: drop"),
    ("encoding: utf-8", "encoding: cp037", "contract.server", "not ASCII-compatible", "server: drop"),
    ('delimiter: ","', 'delimiter: ";;"', "contract.server", "must be one character", "server: drop"),
    ("delimiter: \",\"", "delimiter: '\"'", "contract.server", "must be one character", "server: drop"),
    ("pattern: ^[0-9]{8}$", r"pattern: ^([0-9]+)\1$", "contract.pattern", "bounded time", "name: agent_brn"),
    ("pattern: ^[0-9]{8}$", "pattern: ^(?=0)[0-9]{8}$", "contract.pattern", "bounded time", "name: agent_brn"),
    ("pattern: ^[0-9]{8}$", "pattern: ^(([0-9]{200}){200}){200}$", "contract.pattern", "bounded time", "name: agent_brn"),
    ("pattern: ^[0-9]{8}$", "pattern: ^[0-9]{1,2000}$", "contract.pattern", "at most 255 times", "name: agent_brn"),
    ("compression: gzip", "compresion: gzip", "contract.standard", "compresion", "server: drop"),
    ("encoding: utf-8\n    compression: gzip", "customProperties:\n      - property: compresion\n        value: gzip",
     "contract.unknown_property", "compresion", "server: drop"),
    ("type: s3", "type: s3\n    location: s3://elsewhere/customs/", "contract.server", "from domain and id", "server: drop"),
    ("type: s3", "type: s3\n    location: s3://drop/harbour/customs_declarations/", "contract.server",
     "location must be s3://drop/customs/customs_declarations/", "server: drop"),
    ("domain: customs\n", "domain: harbour\n", "contract.missing", "team", None),
    ('between: ["2012-01-01", "2099-12-31"]', 'logicalTypeOptions:\n          format: dd/MM/yyyy', "contract.option",
     "'format' is not an option", "name: movement_date"),
    ("logicalType: timestamp\n", "logicalType: timestamp\n        logicalTypeOptions: {timezone: false}\n", "contract.option",
     "'timezone' is not an option", "name: lodged_at"),
    ("domain: customs\n", "domain: customs\ndomain: customs\n", "contract.yaml", "duplicate key 'domain'",
     "domain: customs"),
    ("empty: hold", "empty: hold\n  missing: accept", "contract.yaml", "duplicate key 'missing'", "missing: accept"),
    ("days: business", "days: workdays", "contract.calendar", "calendar.days must be", "days: workdays"),
    ('due: "07:30"', 'due: "7.30"', "contract.calendar", "HH:MM", "  days: business"),
    ('due: "07:30"', "due: 18:30", "contract.calendar", "HH:MM", "  days: business"),
    ("empty: hold", "empty: hold\n  timezone: Asia/Kowloon", "contract.calendar", "unknown time zone 'Asia/Kowloon'",
     "  days: business"),
    ("  empty: hold\n", "", "contract.calendar", "calendar.empty", "  days: business"),
    ("empty: hold", "empty: maybe", "contract.calendar", "hold or accept", "  days: business"),
    ("empty: hold", "empty: hold\n  unchanged: hold", "contract.calendar", "alert or accept", "  days: business"),
    ("rejectionBudget: 0.05", "rejectionBudget: 5", "contract.budget", "0 to 1", "rejectionBudget: 5"),
    ("rejectionBudget: 0.05", "rejectionBudget: true", "contract.budget", "0 to 1", "rejectionBudget: true"),
    ("rejectionBudget: 0.05\n", "", "contract.missing", "rejectionBudget is missing", None),
    ("policy: note", "policy: add", "contract.drift", "one of", "policy: add"),
    ("policy: note", "policy: add_nullable", "contract.drift", "add_nullable is now note", "policy: add_nullable"),
    ("to: hkhs_code", "to: hs", "contract.drift", "an alias needs", "policy: note"),
    ('since: "2026-07-20"', 'since: "20 July"', "contract.drift", "since", "policy: note"),
    ("policy: versioned", "policy: overwrite", "contract.corrections", "one of", "policy: overwrite"),
    ("  versionColumn: version\n", "", "contract.corrections", "needs a versionColumn", "policy: versioned"),
    ("versionColumn: version", "versionColumn: revision", "contract.corrections", "unknown column 'revision'",
     "policy: versioned"),
    ("retention: 7y", "retention: 7 decades", "contract.standard", "retention", None),
    ("retention: 7y", "slaProperties:\n  - property: retention\n    value: 7\n    unit: decades", "contract.retention",
     "such as 7y", "property: retention"),
    ("retention: 7y", "slaProperties:\n  - property: retention\n    value: long\n    unit: y", "contract.retention",
     "", "property: retention"),
    ("retention: 7y", "slaProperties:\n  - property: latency\n    value: 7\n    unit: y", "contract.retention",
     "such as 7y", "property: latency"),
    ("contact: trade-data@customs.example", "team:\n  members: []", "contract.missing", "team", "  members: []"),
    ("contact: trade-data@customs.example\n", "", "contract.missing", "team", None),
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
    assert all(problem.file in (str(file), str(PARTNERS / "customs.yaml")) for problem in problems)
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


PLACES = {
    "short": _places(yaml.safe_load(GOOD.read_text())),
    "full": _places(shorthand.read(GOOD)),
}


@given(
    form_and_place=st.sampled_from([(form, place) for form, places in PLACES.items() for place in places]),
    other=st.sampled_from([None, "", "x", 0, -1, [], ["x"], {}, {"x": 1}, True, "gone"]),
)
def test_check_refuses_or_the_contract_can_be_read_when_any_part_of_it_is_another(form_and_place, other, tmp_path):
    form, place = form_and_place
    document = yaml.safe_load(GOOD.read_text()) if form == "short" else shorthand.read(GOOD)
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
        parse_contract(shorthand.read(file), file)
