"""Valid deliveries of every format, changed a little and taken from fetch to publish: sound rows are published exactly, what
is wrong is in quarantine or holds its batch with a reason, and no HKID number is anywhere.

`make faults SEED=...` repeats the mutations. A delivery that shows a fault is kept in `corpus/<format>/<feed>.<what>`.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest
import zstandard
from sampan.contracts.registry import get_contract
from sampan.settings import settings

from tests.factory import DAY, FEEDS, Partner, Row, encode, hkid, plain, rows, stored
from tests.faults.invariants import holds_at_any_moment
from tests.faults.test_instants import seed
from tests.faults.test_readers import KEPT, TOKENS, Damage, contract_of, damaged

RECORDS = 120
# What people and programs write into cells.
TEXTS = [
    "", " ", "0", "-0", "-1", "1e5", "1,000", "NaN", "Infinity", "null", "NULL", "N/A", "#REF!", "true", "2026-02-30",
    "06/07/2026", "0001-01-01", "9999-12-31", "infinity", "2026-07-06T24:00:00", "9" * 400, "0." + "1" * 60, "x" * 3000,
    "\ufeff", "\u200b", "\u0301", "雲\U00020000", "a\tb", 'a"b', "a,b", "a\\", "a;b", "a|b", "=1+1", "'",
    "a\x1bb", "\\N", "[pseudonym]",
    "p1_" + "0" * 64, "{}", "[]", "a\nb", "a\r\nb", "\x7f", "\x85", "\u2028",
]  # fmt: skip


@dataclass
class Mutant:
    """A changed delivery: which rows are untouched (None: cannot be said), and what was done."""

    feed: str
    body: bytes
    untouched: list[Row] | None
    records: int | None
    what: str


def mutants(count: int, chance: Random) -> Iterator[Mutant]:
    """`count` of them, every feed in its turn."""
    for number in range(count):
        feed = FEEDS[number % len(FEEDS)]
        while (mutant := _mutant(feed, chance)) is None:
            pass
        yield mutant


def planted(feed: str) -> tuple[list[Row], list[str]]:
    """Valid rows, and the HKID numbers that stand in them where the contract expects such."""
    contract, given, numbers = get_contract(feed), rows(feed, RECORDS), []
    for column in contract.columns:
        if column.personal == "pseudonymise":
            for n in range(0, RECORDS, 7):
                number = hkid("QWERTYUIOP"[n % 10], f"{100000 + 7919 * n % 900000:06}", brackets=n % 2 == 0)
                changes = {column.name: number} | ({"trader_name": "INDIVIDUAL"} if "trader_name" in given[n] else {})
                given[n] = given[n] | changes
                numbers.append(number)
    return given, numbers


def _mutant(feed: str, chance: Random) -> Mutant | None:
    contract, (given, _) = get_contract(feed), planted(feed)
    kind = chance.choice(["cell", "cell", "cells", "repeat", "contradict", "columns", "bytes", "bytes"])
    if kind == "bytes":
        damage = [
            Damage(
                chance.choice(["flip", "insert", "replace", "remove", "repeat", "cut", "swap"]),
                chance.randrange(1 << 20), chance.randrange(300), chance.choice(TOKENS), chance.random() < 0.7,
            )
            for _ in range(chance.randint(1, 3))
        ]  # fmt: skip
        try:
            return Mutant(feed, damaged(contract, encode(contract, given), damage), None, None, str(damage))
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zstandard.ZstdError):
            return None
    if kind == "columns":
        optional = [c.name for c in contract.columns if not c.required and not c.primary_key]
        without = chance.sample(optional, min(len(optional), chance.randint(0, 1)))
        added = (
            {f"new {chance.randrange(99)}": [chance.choice(TEXTS[:20]) for _ in given]}
            if chance.random() < 0.5
            else None
        )
        if contract.source.format == "fixed":
            return None
        try:
            body = encode(contract, given, without=without, added=added, backwards=chance.random() < 0.5)
        except (ValueError, UnicodeEncodeError):
            return None
        return Mutant(feed, body, None, RECORDS, f"without {without}, added {added and next(iter(added))}")
    places = chance.sample(range(RECORDS), 1 if kind != "cells" else 3)
    changed = [dict(row) for row in given]
    what = []
    for place in places:
        if kind == "repeat":
            changed.append(dict(given[place]))
            what.append(f"row {place} twice")
        elif kind == "contradict":
            columns = [c.name for c in contract.stored if c.name not in contract.key and given[place][c.name]]
            if not columns:
                return None
            name = chance.choice(columns)
            other = next((r[name] for r in given if r[name] not in (given[place][name], None)), None)
            changed.append(given[place] | {name: other})
            what.append(f"row {place} again with another {name}")
        else:
            column, text = chance.choice(contract.columns), chance.choice(TEXTS)
            if contract.source.format == "jsonl" and column.type != "text" and "\n" in text:
                # Without quotes it would be two lines.
                return None
            changed[place][column.name] = text
            what.append(f"row {place}, {column.name}: {text!r}")
    try:
        body = encode(contract, changed)
    except (ValueError, UnicodeEncodeError, ArithmeticError, TypeError, OverflowError):
        return None
    touched = set(places) if kind != "repeat" else set()
    # A line end inside a line of fixed width, or a field that is too wide, moves what follows.
    is_moved = contract.source.format == "fixed"
    untouched = None if is_moved else [row for n, row in enumerate(given) if n not in touched]
    return Mutant(feed, body, untouched, None if is_moved else len(changed), "; ".join(what))


def judge(partner: Partner, mutant: Mutant, name: str, numbers: list[str], said: str) -> str:
    """Take a mutant from fetch to publish, and check what became of it. Returns its state."""
    sampan, contract = partner.sampan, get_contract(mutant.feed)
    before = sampan.one("select coalesce(max(batch_id), 0) from ops.batch")
    partner.puts(mutant.feed, DAY, f"{name}.{contract.source.extension}", mutant.body)
    partner.ingest(mutant.feed)
    found = sampan.rows(
        "select batch_id, state, problem, rows_in, rows_published from ops.batch where batch_id > %s", before
    )
    if not found:
        # The same bytes as an earlier one.
        return "repeated"
    ((batch, state, problem, rows_in, _),) = found
    assert state in ("published", "held"), mutant.what
    if state == "held":
        assert problem["rule"], mutant.what
        assert problem["message"].isprintable()
    elif mutant.untouched is not None:
        names = ", ".join(f'"{column.name}"' for column in contract.stored)
        of_batch = sampan.rows(f'select {names} from raw."{mutant.feed}" where _batch_id = %s', batch)
        seen = Counter(tuple(plain(item) for item in row) for row in of_batch)
        assert rows_in == mutant.records, mutant.what
        private = [n for n, c in enumerate(contract.stored) if c.personal == "pseudonymise"]

        def without_numbers(row: tuple[str | None, ...]) -> tuple[str | None, ...]:
            return tuple(item for n, item in enumerate(row) if n not in private)

        wanted = Counter(map(without_numbers, stored(contract, mutant.untouched)))
        lost = wanted - Counter(map(without_numbers, seen.elements()))
        assert not lost, (mutant.what, list(lost)[:2])
    if numbers:
        query = f"""
            select to_jsonb(r)::text from raw."{mutant.feed}" as r where _batch_id = {batch}
            union all select concat(record, fields, broken_rules) from quarantine.record where batch_id = {batch}
            union all select to_jsonb(d)::text from ops.drift as d where batch_id = {batch}
            union all select coalesce(problem::text, '') from ops.batch where batch_id = {batch}
        """
        leaked = sampan.rows(query)
        everything = said + "".join(text for (text,) in leaked)
        assert [number for number in numbers if number in everything] == [], mutant.what
    return state


def survive(partner: Partner, count: int, caplog: pytest.LogCaptureFixture) -> None:
    chance, states = Random(seed()), Counter()
    numbers = {feed: planted(feed)[1] for feed in FEEDS}
    assert sum(map(bool, numbers.values())) >= 2
    for n, mutant in enumerate(mutants(count, chance)):
        try:
            states[judge(partner, mutant, f"mutant{n}", numbers[mutant.feed], caplog.text)] += 1
        except BaseException as error:
            kept = settings().state / f"{mutant.feed}.mutant{n}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(mutant.body)
            error.add_note(f"mutant {n} of {mutant.feed}: {mutant.what}; its bytes are in {kept}")
            raise
        caplog.clear()
    holds_at_any_moment(partner.sampan)
    print(dict(states))
    assert min(states["published"], states["held"]) > count / 20


def test_a_few_mutations_of_deliveries_lose_no_sound_row(partner, caplog):
    survive(partner, len(FEEDS), caplog)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_five_hundred_mutations_of_deliveries_lose_no_sound_row(partner, caplog):
    survive(partner, 500, caplog)


def test_each_file_of_the_corpus_is_published_or_held_with_a_reason(partner):
    for path in KEPT:
        contract = contract_of(path)
        mutant = Mutant(contract.feed, path.read_bytes(), None, None, path.name)
        judge(partner, mutant, path.name.replace(".", "_"), [], "")
    holds_at_any_moment(partner.sampan)
