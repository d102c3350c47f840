"""`sampan contracts check` names what is wrong with how a contract asks an API, and with fixed-width fields."""

from __future__ import annotations

from pathlib import Path

import pytest
from sampan.contracts.model import FEEDS
from sampan.contracts.registry import all_contracts
from sampan.contracts.validate import check

IDDS, LOOKUP, BULK, FILE = "csd_trade_statistics", "companies_registry", "csd_bulk_hscoit", "hkhs_codes"


def problems(tmp_path: Path, feed: str, old: str, new: str) -> list[str]:
    """Messages about a contract in which a text was replaced, in a folder with all the others."""
    for path in FEEDS.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (FEEDS / f"{feed}.yaml").read_text()
    assert old in text
    (tmp_path / f"{feed}.yaml").write_text(text.replace(old, new, 1))
    return [str(problem) for problem in check(tmp_path / f"{feed}.yaml")]


@pytest.mark.parametrize(
    ("feed", "old", "new", "message"),
    [
        pytest.param(IDDS, "action: step_back", "action: give_up", "a failure needs match and action", id="action"),
        pytest.param(IDDS, r"Period code \(\w+\)", "Period code (", "is not a regular expression", id="pattern"),
        pytest.param(IDDS, r"\(([^)]*)\)", r"\([^)]*\)", "match needs one group", id="named-without-group"),
        pytest.param(IDDS, "dataSet[].{", "dataSet[.{", "not a JMESPath expression", id="records"),
        pytest.param(IDDS, "path: header.status.name", "path: 'header..name'", "success.path: not", id="success-path"),
        pytest.param(IDDS, "      equals: Success\n", "", "success needs path and equals", id="success-without-equals"),
        pytest.param(IDDS, "pauseSeconds", "pauseMinutes", "'pauseMinutes'; did you mean pauseSeconds", id="unknown"),
        pytest.param(IDDS, "      size: 20\n", "", "batch needs parameter, size and values", id="batch"),
        pytest.param(IDDS, '[{ttype: "1"},', "[seven,", "an entry of each must be a list of parameters", id="each"),
        pytest.param(
            IDDS, "location: https://tradeidds", "location: https://elsewhere", "location must begin with", id="base"
        ),
        pytest.param(
            IDDS, "servers:\n", "servers:\n  - server: drop\n    type: s3\n    format: csv\n",
            "one server, or several of type api", id="mixed",
        ),
        pytest.param(LOOKUP, "feed: business_register", "feed: no_such_feed", "unknown feed 'no_such_feed'", id="feed"),
        pytest.param(LOOKUP, "column: brn\n", "column: bnr\n", "unknown column 'bnr'", id="column"),
        pytest.param(LOOKUP, "branch_no = '000'", "branch = '000'", "unknown column 'branch'", id="where"),
        pytest.param(LOOKUP, "        limit: 1000\n", "", "parameter, feed, column, where and limit", id="limit"),
        pytest.param(
            "datagovhk_catalogue", "style: offset", "style: cursor", "pagination needs style (offset)", id="paging"
        ),
        pytest.param(FILE, "format: csv", "format: doc", "format must be", id="format"),
        pytest.param(
            FILE, "format: csv", "format: csv\n    records: data", "downloaded as it is: remove records",
            id="file-with-records",
        ),
        pytest.param(FILE, "baseUrlVariable: SAMPAN_CENSTATD_URL", "pauseSeconds: 1", "given together", id="base-alone"),
        pytest.param(BULK, "encoding: utf-8\n", "encoding: utf-8\n    maxBytes: 0\n", "maxBytes must be", id="bytes"),
        pytest.param(BULK, "encoding: utf-8\n", "encoding: utf-8\n    maxSeconds: 1.5\n", "maxSeconds must", id="seconds"),
        pytest.param(BULK, "start: 13", "start: 12", "inside the", id="overlap"),
        pytest.param(BULK, "        start: 13\n", "", "needs start and length", id="no-start"),
        pytest.param(IDDS, "  day: 2", "  day: 9", "calendar.day must be 1 to 7", id="weekday"),
        pytest.param(IDDS, "  day: 2\n", "", "calendar.day must be 1 to 7", id="no-weekday"),
        pytest.param(BULK, "days: monthly", "days: business", "absent otherwise", id="day-of-business"),
    ],
)  # fmt: skip
def test_check_names_what_is_wrong(tmp_path, feed, old, new, message):
    found = problems(tmp_path, feed, old, new)
    assert any(message in text for text in found), found
    assert all(f"{feed}.yaml:" in text for text in found), "a problem has no line"


def test_contracts_of_all_kinds_are_sound():
    formats = {(contract.source.kind, contract.source.format) for contract in all_contracts().values()}
    assert {("api", "jsonl"), ("api", "csv"), ("s3", "fixed"), ("s3", "xlsx"), ("s3", "parquet")} <= formats
