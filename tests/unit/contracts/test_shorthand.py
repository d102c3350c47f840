"""Short forms and partner defaults: what they expand to, and where an error in them is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sampan.contracts import shorthand
from sampan.contracts.model import FEEDS, custom_properties
from sampan.contracts.validate import check

FEED = FEEDS / "quality_marks.yaml"


@pytest.fixture
def partners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shorthand, "PARTNERS", tmp_path)
    return tmp_path


def expanded(text: str) -> Any:
    return shorthand.construct(shorthand.expand(yaml.compose(text, yaml.SafeLoader)))


def test_contract_wins_over_its_partners_defaults_entry_by_entry(partners: Path) -> None:
    (partners / "p.yaml").write_text("team: {name: Their name}\ncalendar: {timezone: Asia/Hong_Kong, due: '09:00'}\n")
    document = expanded("domain: p\ncontact: a@b.example\ncalendar: {due: '10:00', days: daily}\n")
    assert document["team"] == {"name": "Their name", "members": [{"username": "a@b.example", "role": "owner"}]}
    assert document["support"] == [{"channel": "a", "url": "mailto:a@b.example"}]
    calendar = custom_properties(document["customProperties"])["calendar"]
    assert calendar == {"due": "10:00", "days": "daily", "timezone": "Asia/Hong_Kong"}


def test_contract_in_the_long_form_takes_no_short_defaults(partners: Path) -> None:
    (partners / "p.yaml").write_text("calendar: {timezone: Asia/Hong_Kong}\nretention: 7y\n")
    document = expanded("domain: p\ncustomProperties: []\nslaProperties: []\n")
    assert not document.keys() & {"calendar", "retention"}


def test_error_in_the_defaults_is_reported_at_their_file_and_line(partners: Path) -> None:
    file = partners / "marks.yaml"
    file.write_text("team:\n  name: Issuers\ncalendar:\n  timezone: Asia/Kowloon\n")
    (problem,) = check(FEED)
    assert problem.message == "unknown time zone 'Asia/Kowloon'"
    file.write_text("team:\n  name: [Issuers]\ncalendar:\n  timezone: Asia/Hong_Kong\n")
    assert {(problem.file, problem.line) for problem in check(FEED)} == {(str(file), 2)}


def test_column_expands_to_the_words_of_the_standard() -> None:
    document = expanded(
        "id: f\nschema:\n  - key: [a]\n    properties:\n"
        "      - {name: a, between: [1, 9], unit: HKD, scale: 2, personalData: hkid, enum: [x, y]}\n"
    )
    (column,) = document["schema"][0]["properties"]
    assert column == {
        "name": "a", "primaryKey": True, "primaryKeyPosition": 1, "required": True,
        "logicalTypeOptions": {"minimum": 1, "maximum": 9}, "enum": [{"value": "x"}, {"value": "y"}],
        "customProperties": [
            {"property": "unit", "value": "HKD"}, {"property": "scale", "value": 2},
            {"property": "personalData", "value": "pseudonymise"},
            {"property": "personalDataPattern", "value": "hkid"},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("row: a > 1", {"type": "custom", "engine": "row", "severity": "error", "implementation": "a > 1"}),
        (
            "rowCount: [1, 2]",
            {"type": "library", "metric": "rowCount", "severity": "critical", "mustBeBetween": [1, 2]},
        ),
        (
            "expect: {type: t}",
            {"type": "custom", "engine": "greatExpectations", "severity": "warning", "implementation": {"type": "t"}},
        ),
        ("row: a > 1\n        severity: warning", {"severity": "warning"}),
    ],
)
def test_rule_expands_to_the_words_of_the_standard(short: str, long: dict[str, Any]) -> None:
    (rule,) = expanded(f"schema:\n  - quality:\n      - name: r\n        {short}\n")["schema"][0]["quality"]
    assert rule.items() >= long.items()
    assert not rule.keys() & {"row", "rowCount", "expect"}


@pytest.mark.parametrize("text", ["[]", "a", "schema: 1", "schema: [1]", "schema: [{properties: x, key: y}]"])
def test_unexpected_structure_is_left_for_the_check(text: str) -> None:
    assert expanded(text) is not None
