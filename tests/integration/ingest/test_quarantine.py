"""Quarantine: what is kept of a bad row, and the way back for it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure, Problem
from sampan.ingest import ledger, load, quarantine

from tests.factory import DAY, FEEDS, adds_up, encode, feeds, representative_feeds, rows, stored
from tests.integration.ingest.deliveries import body_of, lines_of, name_of
from tests.unit.reading.test_bounds import measured

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
MANY = 100


def spoilt(feed: str, count: int = 1) -> tuple[list[dict], list[dict]]:
    """(rows as delivered, the first `count` of them with a bad value; the same rows as they should be)."""
    given, contract = rows(feed, MANY), get_contract(feed)
    others = [c for c in contract.stored if not c.primary_key and not c.enum]
    needed = next((c.name for c in others if c.required), None)
    if needed:
        bad = {needed: None}
    elif above := next((c.name for c in others if "exclusiveMinimum" in c.options), None):
        bad = {above: "-1"}
    else:
        short = next(c for c in others if "maxLength" in c.options)
        bad = {short.name: "x" * (short.options["maxLength"] + 1)}
    return [row | bad if n < count else row for n, row in enumerate(given)], given


def corrected(feed: str, given: list[dict], ids=()) -> str:
    """The export of a feed's open rows with every value put right."""
    contract = get_contract(feed)
    by_key = {tuple(row[name] for name in contract.key): row for row in given}
    reader = csv.DictReader(quarantine.export(contract, quarantine.entries(feed, ids)))
    out = io.StringIO()
    writer = csv.DictWriter(out, reader.fieldnames or [])
    writer.writeheader()
    for row in reader:
        right = by_key[tuple(row[name] for name in contract.key)]
        writer.writerow(row | {c.name: right[c.name] or "" for c in contract.stored})
    return out.getvalue()


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.budget >= 0.01, least=10)))
def test_replay_publishes_the_row_once_when_it_has_been_corrected(feed, partner, tmp_path):
    delivered, right = spoilt(feed)
    partner.hands_over(feed, DAY, delivered)
    batch = partner.ingest(feed)
    assert (batch["rows_published"], batch["rows_quarantined"]) == (MANY - 1, 1), batch["problem"]
    file = tmp_path / "corrected.csv"
    file.write_text(corrected(feed, right))
    assert quarantine.replay(feed, corrected=file) == {"rows": 1, "published": 1, "quarantined": 0}
    assert partner.raw(feed) == stored(get_contract(feed), right)
    states = partner.sampan.rows("select state, resolved_by_batch_id from quarantine.record")
    assert states == [("resolved", partner.sampan.batch(feed)["batch_id"])]
    replays = partner.sampan.rows("select origin, replays, business_date from ops.batch order by batch_id")
    assert replays == [("delivery", None, DAY), ("replay", batch["batch_id"], DAY)]
    adds_up(partner.sampan)
    with pytest.raises(PermanentFailure, match="has no open rows with the ids"):
        quarantine.replay(feed, corrected=file)
    assert partner.raw(feed) == stored(get_contract(feed), right)


def test_replay_keeps_the_row_when_it_is_still_broken(partner):
    delivered, _ = spoilt(FEED, 2)
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    assert quarantine.replay(FEED) == {"rows": 2, "published": 0, "quarantined": 2}
    opened, resolved = quarantine.entries(FEED), quarantine.entries(FEED, state="resolved")
    assert [entry.fields for entry in opened] == [entry.fields for entry in resolved]
    assert len(opened) == 2
    assert len(partner.raw(FEED)) == MANY - 2
    adds_up(partner.sampan)


def test_replay_as_it_is_publishes_the_row_when_the_contract_has_changed_since(partner, monkeypatch):
    given = rows(FEED, MANY)
    given[4]["unit_code"] = "99"
    partner.hands_over(FEED, DAY, given)
    partner.ingest(FEED)
    for _ in range(2):
        assert quarantine.replay(FEED) == {"rows": 1, "published": 0, "quarantined": 1}
    columns = tuple(replace(c, enum=(*c.enum, "99")) if c.name == "unit_code" else c for c in CONTRACT.columns)
    monkeypatch.setattr(ledger, "get_contract", lambda feed: replace(CONTRACT, columns=columns))
    assert quarantine.replay(FEED) == {"rows": 1, "published": 1, "quarantined": 0}
    assert partner.raw(FEED) == stored(CONTRACT, given)
    assert quarantine.entries(FEED) == []


def test_replay_finishes_when_it_was_interrupted(partner, monkeypatch, tmp_path):
    delivered, right = spoilt(FEED)
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    file = tmp_path / "corrected.csv"
    file.write_text(corrected(FEED, right))
    for module in (load, quarantine.gate, quarantine.publish):
        with monkeypatch.context() as patch:
            patch.setattr(module, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                quarantine.replay(FEED, corrected=file)
    assert quarantine.replay(FEED, corrected=file)["published"] == 1
    assert partner.raw(FEED) == stored(CONTRACT, right)
    adds_up(partner.sampan)


def one_in_progress(partner, monkeypatch, file):
    """A replay of one row as corrected that died when it was landed; (row in quarantine, batch of the replay)."""
    delivered, right = spoilt(FEED)
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    (entry,) = quarantine.entries(FEED)
    file.write_text(corrected(FEED, right))
    with monkeypatch.context() as patch:
        patch.setattr(load, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            quarantine.replay(FEED, corrected=file)
    return entry.quarantine_id, partner.sampan.batch(FEED)["batch_id"]


def test_replay_is_refused_when_another_of_the_same_row_is_in_progress(partner, monkeypatch, tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    row, batch = one_in_progress(partner, monkeypatch, first)
    second.write_text(f"_quarantine_id,goods_description\n{row},something else\n")
    with pytest.raises(PermanentFailure, match=f"row {row} is in batch {batch}") as refused:
        quarantine.replay(FEED, corrected=second)
    assert refused.value.problem.rule == "quarantine.under_way"
    assert partner.sampan.one("select count(*) from ops.batch") == 2
    assert quarantine.replay(FEED, corrected=first)["published"] == 1
    assert len(partner.raw(FEED)) == MANY
    adds_up(partner.sampan)


def test_a_replay_is_held_when_its_row_was_discarded_in_progress(partner, monkeypatch, tmp_path):
    row, batch = one_in_progress(partner, monkeypatch, tmp_path / "a.csv")
    assert quarantine.discard(FEED, [row], "sent twice", "a steward") == 1
    for _ in range(2):
        partner.ingest(FEED)
        held = partner.sampan.batch(FEED)
        assert (held["batch_id"], held["state"], held["problem"]["rule"]) == (batch, "held", "replay.decided")
        with pytest.raises(PermanentFailure, match="cannot be accepted because their rows were never checked: batch"):
            quarantine.gate.accept(FEED, DAY, "accept it anyway", "a steward")
        assert load.reset_held(FEED) == 1
    assert partner.sampan.rows("select state, resolved_by_batch_id from quarantine.record") == [("discarded", None)]
    assert len(partner.raw(FEED)) == MANY - 1


def test_replay_says_that_it_is_held_and_takes_up_the_held_one_when_it_is_sent_again(partner, monkeypatch, tmp_path):
    file = tmp_path / "a.csv"
    _, batch = one_in_progress(partner, monkeypatch, file)
    with monkeypatch.context() as patch:
        problem = Problem("gate.expectation", "a rule that cannot be asked")
        patch.setattr(quarantine.gate, "_batch_rules", lambda *_: (_ for _ in ()).throw(PermanentFailure(problem)))
        with pytest.raises(PermanentFailure, match=f"held as batch {batch}: a rule that cannot be asked"):
            quarantine.replay(FEED, corrected=file)
    assert quarantine.replay(FEED, corrected=file)["published"] == 1
    assert len(partner.raw(FEED)) == MANY
    adds_up(partner.sampan)


def test_replay_takes_every_row_that_is_named_and_says_when_it_takes_but_the_first(partner, monkeypatch, caplog):
    delivered, _ = spoilt(FEED, 3)
    monkeypatch.setattr(quarantine, "LIMIT", 2)
    monkeypatch.setattr(quarantine.entries, "__defaults__", (*quarantine.entries.__defaults__[:-1], 2))
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    batch = quarantine.entries(FEED)
    assert len(batch) == 2
    ids = [key for (key,) in partner.sampan.rows("select quarantine_id from quarantine.record order by 1")]
    assert [entry.quarantine_id for entry in quarantine.entries(FEED, ids)] == ids
    assert len(ids) == 3
    assert quarantine.replay(FEED)["rows"] == 2
    assert "only the first 2 open rows are replayed" in caplog.text


def test_rows_are_shown_and_exported_some_at_a_time(partner):
    """A steward's command must not need memory for all rows together, which may have a MiB each."""
    delivered, _ = spoilt(FEED)
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    many = partner.sampan.rows(
        """
        insert into quarantine.record (feed, batch_id, line, broken_rules, record, fields)
        select feed, batch_id, 1000 + n, broken_rules, repeat('x', 1000000),
            fields || jsonb_build_object('goods_description', repeat('y', 1000000))
        from quarantine.record, generate_series(1, 50) as n
        returning 1
        """
    )
    assert len(many) == 50

    def shown() -> str:
        found = sum(len(entry.record) > 999_999 for entry in quarantine.stream(FEED))
        exported = sum(len(line) > 999_999 for line in quarantine.export(CONTRACT, quarantine.stream(FEED)))
        return f"{found} {exported}"

    said, grown = measured(shown)
    assert said == "50 50"
    # All rows together are 100 MB, and in memory twice: as the server sent them, and as text.
    assert grown < 90, grown


def test_a_row_is_published_once_when_two_replays_of_it_are_gated(partner, monkeypatch, tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    row, _ = one_in_progress(partner, monkeypatch, first)
    second.write_text(f"_quarantine_id,goods_description\n{row},something else\n")
    # Two that asked at the same moment.
    monkeypatch.setattr(quarantine, "_refuse_if_in_replay", lambda *_: None)
    with pytest.raises(PermanentFailure, match="0 of 1 rows are still open"):
        quarantine.replay(FEED, corrected=second)
    states = [state for (state,) in partner.sampan.rows("select state from ops.batch order by batch_id")]
    assert states == ["published", "published", "held"]
    assert len(partner.raw(FEED)) == MANY
    adds_up(partner.sampan)


def test_replay_brings_back_what_could_not_be_split_when_it_has_been_typed_in(partner, tmp_path):
    from tests.factory import encode

    given = rows(FEED, MANY)
    import gzip

    body = gzip.decompress(encode(CONTRACT, given)).splitlines()
    body[5] = body[5].rsplit(b",", 3)[0]
    partner.puts(FEED, DAY, "x.csv.gz", gzip.compress(b"\n".join(body)))
    partner.ingest(FEED)
    (entry,) = quarantine.entries(FEED)
    assert (entry.fields, entry.line) == (None, 6)
    with pytest.raises(PermanentFailure, match="has no open row that can be replayed"):
        quarantine.replay(FEED)
    file = tmp_path / "typed.csv"
    names = [c.name for c in CONTRACT.stored]
    out = io.StringIO()
    csv.writer(out).writerows([["_quarantine_id", *names], [entry.quarantine_id, *(given[4][n] or "" for n in names)]])
    file.write_text("\ufeff" + out.getvalue(), encoding="utf-8")
    assert quarantine.replay(FEED, corrected=file)["published"] == 1
    assert partner.raw(FEED) == stored(CONTRACT, given)


def test_replay_keeps_what_the_file_does_not_name_when_columns_are_left_out(partner, tmp_path):
    given = rows(FEED, MANY)
    delivered = [row | ({"value_hkd": "-1"} if n == 0 else {}) for n, row in enumerate(given)]
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    (entry,) = quarantine.entries(FEED)
    file = tmp_path / "short.csv"
    file.write_text(f"_quarantine_id,value_hkd\n{entry.quarantine_id},{given[0]['value_hkd']}\n")
    assert quarantine.replay(FEED, corrected=file)["published"] == 1
    assert partner.raw(FEED) == stored(CONTRACT, given)


def test_replay_links_each_line_to_its_row_when_a_value_spans_lines(partner):
    given = rows(FEED, MANY)
    for n in range(3):
        given[n] |= {"goods_description": f"first {n}\nsecond {n}", "hkhs_code": "1"}
    partner.hands_over(FEED, DAY, given)
    partner.ingest(FEED)
    quarantine.replay(FEED)
    linked = partner.sampan.rows(
        "select old.fields ->> 'goods_description', new.fields ->> 'goods_description' from ops.replay_line l"
        " join quarantine.record old on old.quarantine_id = l.quarantine_id"
        " join quarantine.record new on new.batch_id = l.batch_id and new.line = l.line"
    )
    assert len(linked) == 3
    assert all(old == new for old, new in linked)


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.corrections == "replace_period", least=2)))
def test_replay_leaves_the_batch_it_comes_from_when_the_feed_replaces_periods(feed, partner, tmp_path):
    delivered, right = spoilt(feed)
    partner.hands_over(feed, DAY, delivered)
    first = partner.ingest(feed)
    file = tmp_path / "corrected.csv"
    file.write_text(corrected(feed, right))
    quarantine.replay(feed, corrected=file)
    assert partner.raw(feed) == stored(get_contract(feed), right)
    assert partner.sampan.one("select state from ops.batch where batch_id = %s", first["batch_id"]) == "published"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("declaration_no\nTD1\n", "quarantine.columns"),
        ("_quarantine_id,no_such\n1,2\n", "quarantine.columns"),
        ("_quarantine_id,version\nx,2\n", "quarantine.id"),
        ("_quarantine_id,version\n²,2\n", "quarantine.id"),
        ("_quarantine_id,version\n99999999999999999999,2\n", "quarantine.id"),
        ("_quarantine_id,version\n{id},2\n{id},3\n", "quarantine.id"),
        ("_quarantine_id,version\n999999,2\n", "quarantine.id"),
        ("_quarantine_id,version\n", "quarantine.nothing_to_replay"),
        ("", "quarantine.columns"),
        ("_quarantine_id,version\n\udcff,2\n", "quarantine.unreadable"),
    ],
)
def test_replay_is_refused_with_its_reason_when_the_file_is_wrong(text, rule, partner, tmp_path):
    delivered, _ = spoilt(FEED)
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    (entry,) = quarantine.entries(FEED)
    file = tmp_path / "wrong.csv"
    file.write_text(text.replace("{id}", str(entry.quarantine_id)), errors="surrogateescape")
    with pytest.raises(PermanentFailure) as refused:
        quarantine.replay(FEED, corrected=file)
    assert refused.value.problem.rule == rule
    assert partner.sampan.one("select count(*) from ops.batch") == 1


def test_discard_gives_rows_up_for_good_when_a_reason_is_given(partner):
    delivered, _ = spoilt(FEED, 2)
    partner.hands_over(FEED, DAY, delivered)
    partner.ingest(FEED)
    first, second = quarantine.entries(FEED)
    assert quarantine.discard(FEED, [first.quarantine_id], "sent twice", "a steward") == 1
    assert quarantine.discard(FEED, [first.quarantine_id], "sent twice", "a steward") == 0
    assert [entry.quarantine_id for entry in quarantine.entries(FEED)] == [second.quarantine_id]
    kept = partner.sampan.rows("select state, reason, decided_by from quarantine.record order by quarantine_id")
    assert kept == [("discarded", "sent twice", "a steward"), ("open", None, None)]
    assert quarantine.replay(FEED)["rows"] == 1
    for ids, reason in (([], "why"), ([second.quarantine_id], " ")):
        with pytest.raises(PermanentFailure):
            quarantine.discard(FEED, ids, reason, "a steward")


@pytest.mark.parametrize("feed", representative_feeds(FEEDS))
def test_gate_keeps_one_of_identical_rows_and_none_of_contradicting_ones_when_keys_repeat(feed, partner):
    contract, given = get_contract(feed), rows(feed, 300)
    other = next((c for c in contract.stored if not c.primary_key and not c.enum and c.type == "text"
                  and "pattern" not in c.options), None) or next(
        c for c in contract.stored if c.type == "numeric" and given[0][c.name])  # fmt: skip
    text = "Another synthetic value" if other.type == "text" else "0.07"
    twice = [given[10], given[10], given[11]]
    against = given[20] | {other.name: text}
    partner.hands_over(feed, DAY, [*given, *twice, against])
    batch = partner.ingest(feed)
    counted = (batch["rows_in"], batch["rows_published"], batch["rows_quarantined"], batch["rows_duplicate"])
    assert counted == (304, 299, 2, 3), batch["problem"]
    rules = [broken for _, broken in partner.quarantined(feed)]
    assert rules == [["primary_key.contradicting_rows"]] * 2
    assert partner.raw(feed) == stored(contract, given[:20] + given[21:])
    adds_up(partner.sampan)


def test_counts_and_entries_agree_when_rows_broke_several_rules(partner):
    given = rows(FEED, MANY)
    given[0] |= {"value_hkd": "-1.005"}
    given[1] |= {"value_hkd": "-1"}
    partner.hands_over(FEED, DAY, given)
    partner.ingest(FEED)
    assert quarantine.counts() == [
        (FEED, "open", "value_hkd.minimum", 2),
        (FEED, "open", "value_hkd.scale", 1),
    ]
    assert len(quarantine.entries(FEED, limit=1)) == 1
    with pytest.raises(PermanentFailure, match="no feed"):
        quarantine.entries("no_such_feed")


# --- a replay is as strict as a delivery ------------------------------------------------------------------------------


def exported(partner, feed: str = FEED, count: int = 3) -> tuple[list[str], list[dict]]:
    """Lines of the export of `count` rows in quarantine, put right, and all rows of the delivery as they should be."""
    delivered, right = spoilt(feed, count)
    partner.hands_over(feed, DAY, delivered)
    partner.ingest(feed)
    return corrected(feed, right).splitlines(), right


def replayed(lines: list[str], tmp_path, feed: str = FEED) -> Problem:
    """The problem of a replay that is refused; nothing of it was landed."""
    file = tmp_path / "corrected.csv"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(PermanentFailure) as refused:
        quarantine.replay(feed, corrected=file)
    assert refused.value.problem.file == str(file)
    return refused.value.problem


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.budget >= 0.01, least=10)))
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda line: f"{line},more", "record.too_many_fields"),
        (lambda line: f"{line},", "record.too_many_fields"),
        (lambda line: line.rpartition(",")[0], "record.too_few_fields"),
        (lambda line: line.partition(",")[0], "record.too_few_fields"),
    ],
    ids=["surplus", "surplus-empty", "lost", "id-only"],
)
def test_replay_is_refused_when_a_row_has_other_than_its_fields(change, rule, feed, partner, tmp_path):
    """Kind of fault: a surplus field is dropped and a lost one becomes null, without a word."""
    lines, _ = exported(partner, feed, 1)
    problem = replayed([lines[0], change(lines[1])], tmp_path, feed)
    assert (problem.rule, problem.line) == (rule, 2)
    assert partner.sampan.one("select count(*) from ops.batch") == 1
    assert [entry.state for entry in quarantine.entries(feed)] == ["open"]


def test_replay_names_every_line_that_is_not_sound(partner, tmp_path):
    lines, _ = exported(partner)
    wrong = [
        lines[0],
        f"{lines[1]},more",
        lines[2],
        lines[3].rpartition(",")[0],
        'x"' + lines[1],
        f'"a"b,{lines[2]}',
        f"17x{lines[3][1:]}",
        lines[2],
    ]
    problem = replayed(wrong, tmp_path)
    assert (problem.rule, problem.line) == ("record.too_many_fields", 2)
    named = problem.message.split("; ")
    assert [part.partition(":")[0] for part in named[1:]] == ["line 4", "line 5", "line 6", "line 7", "line 8"]
    assert "[record.too_few_fields]" in named[1]
    assert "[record.bad_quote]" in named[3]
    assert "duplicate id" in named[5]


def test_replay_counts_physical_lines_when_values_have_line_ends(partner, tmp_path):
    lines, _ = exported(partner)
    two_lines = lines[1].replace(",", ',"a\nb",', 1)
    problem = replayed([lines[0], two_lines, f"{lines[2]},"], tmp_path)
    assert problem.line == 2
    assert "line 4: " in problem.message


def test_replay_names_at_most_some_lines_when_all_are_broken(partner, tmp_path):
    lines, _ = exported(partner, count=3)
    problem = replayed([lines[0], *(f"{lines[1]},more" for _ in range(50))], tmp_path)
    assert problem.message.endswith("; and 30 more lines")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header + ",value_hkd", "more than once: value_hkd"),
        (lambda header: header.replace("value_hkd", "Value_HKD"), "unknown: 'Value_HKD'"),
        (lambda header: header.replace(",", ";"), "separated by commas; _quarantine_id is missing"),
        (lambda header: header.replace("_quarantine_id", "id"), "_quarantine_id is missing; unknown: 'id'"),
        (lambda header: header + ",", "unknown: ''"),
    ],
    ids=["twice", "capitals", "semicolons", "no-id", "empty"],
)
def test_replay_is_refused_when_the_headers_are_not_those_of_the_export(change, said, partner, tmp_path):
    lines, _ = exported(partner, count=1)
    problem = replayed([change(lines[0]), *lines[1:]], tmp_path)
    assert (problem.rule, problem.line) == ("quarantine.columns", 1)
    assert said in problem.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("_quarantine_id,goods_description\n1,雲吞\n".encode("gb18030"), "text in another encoding"),
        ("_quarantine_id,goods_description\n1,x\n".encode("utf-16"), "text in UTF-16"),
        (encode(get_contract("hkecic_policies"), []), "an Excel workbook (xlsx)"),
    ],
    ids=["gb18030", "utf-16", "workbook"],
)
def test_replay_says_what_a_file_is_that_is_not_csv_in_utf_8(body, said, sampan, tmp_path):
    (tmp_path / "corrected.csv").write_bytes(body)
    with pytest.raises(PermanentFailure) as refused:
        quarantine.replay(FEED, corrected=tmp_path / "corrected.csv")
    assert refused.value.problem.rule == "quarantine.unreadable"
    assert refused.value.problem.message == f"it is {said}: save it as CSV in UTF-8"


def test_replay_of_a_row_that_could_not_be_split_needs_all_of_its_columns(partner, tmp_path):
    feed = "epayment_summaries"
    contract, given = get_contract(feed), rows(feed, MANY)
    lines = lines_of(feed, given)
    partner.puts(feed, DAY, name_of(feed), body_of(feed, [*lines[:4], f"{lines[4]},more", *lines[5:]]))
    partner.ingest(feed)
    (entry,) = quarantine.entries(feed)
    assert (entry.fields, entry.broken_rules) == (None, ["record.too_many_fields"])
    # As it was exported, without a value.
    problem = replayed(list(map(str.rstrip, quarantine.export(contract, [entry]))), tmp_path, feed)
    assert f"row {entry.quarantine_id} could not be split into fields" in problem.message
    keys = ["_quarantine_id", *contract.key]
    some = [",".join(keys), ",".join([str(entry.quarantine_id), *(given[3][name] or "" for name in contract.key)])]
    assert replayed(some, tmp_path, feed).rule == "quarantine.columns"
    out = io.StringIO()
    names = [column.name for column in contract.stored]
    csv.writer(out).writerows([["_quarantine_id", *names], [entry.quarantine_id, *(given[3][n] or "" for n in names)]])
    (tmp_path / "whole.csv").write_text(out.getvalue())
    assert quarantine.replay(feed, corrected=tmp_path / "whole.csv")["published"] == 1
    assert partner.raw(feed) == stored(contract, given)
