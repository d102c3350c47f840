"""A partner and people do anything in any order, and what counts is what a small model says (model.py).

`make faults SEED=...` repeats a run; what fails is printed as the calls that lead to it.
"""

from __future__ import annotations

import itertools
import math
import time
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure
from sampan.ingest import fetch, freshness, gate, land, load, publish, quarantine, withdraw
from sampan.ingest.withdraw import Chosen

from tests.factory import Partner, encode, rows
from tests.faults.invariants import holds_at_the_end
from tests.faults.model import Batch, Ledger, Row
from tests.integration.marts.test_build import _shared_state, dbt_folder, spine

__all__ = ["_shared_state", "dbt_folder"]

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
FIRST_DAY, NOW = date(2021, 1, 4), datetime(2026, 11, 1, 12, tzinfo=HONG_KONG)
WHY, WHO = "not what it says", "wong"
STEPS = {module.__name__.rpartition(".")[2]: module for module in (fetch, land, load, gate, publish)}
# So many records that one odd one is within the budget of rejections and five are not.
RECORDS = 40
# Business dates of the next run of the machine: all of them share one installation.
UNUSED_DAYS = itertools.count(0, 2)


def content(run: int, kind: int, odd: int) -> tuple[Row, ...]:
    """One of the contents that a partner delivers: they share documents, and no value is in two of them."""
    return tuple(
        Row(f"DX{run:06}{kind % 3 * 5 + n:03}", 1 + kind // 4, None if n < odd else 1000 * (kind + 1) + n)
        for n in range(RECORDS)
    )


@cache
def body(given: tuple[Row, ...]) -> bytes:
    """The delivery of a content: always the same bytes, which gzip alone would not give."""
    usual = rows(FEED, RECORDS, FIRST_DAY)
    records = [
        row
        | {"declaration_no": new.document, "version": str(new.version), "line_no": "1", "form_type": "2"}
        | {"value_hkd": "-1" if new.value is None else str(new.value)}
        for row, new in zip(usual, given, strict=True)
    ]
    return encode(CONTRACT, records)


class Platform(RuleBasedStateMachine):
    """The platform beside its model."""

    partner: ClassVar[Partner]
    folder: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.run = next(UNUSED_DAYS)
        self.days = [FIRST_DAY + timedelta(days=self.run + n) for n in range(2)]
        self.ledger = Ledger()
        self.moments = (NOW - timedelta(days=1) + timedelta(minutes=n) for n in itertools.count())
        self.put_at: dict[tuple[date, str], float] = {}

    # --- the partner ---

    @rule(
        day=st.integers(0, 1),
        name=st.sampled_from(["one", "two"]),
        kind=st.integers(0, 5),
        odd=st.sampled_from([0, 0, 1, 5]),
        by=st.sampled_from(["", *STEPS]),
    )
    def delivers(self, day: int, name: str, kind: int, odd: int, by: str) -> None:
        """Put an object, and take the steps up to one of them."""
        given, at, where = content(self.run, kind, odd), next(self.moments), (self.days[day], name)
        sampan = self.partner.sampan
        # S3 keeps whole seconds: what comes under the same name must come measurably later.
        time.sleep(max(0.0, math.floor(self.put_at.get(where, 0) + 1) - time.time()))
        sampan.s3.put_object(
            Bucket=sampan.environment["SAMPAN_DROP_BUCKET"],
            Key=f"{CONTRACT.drop_prefix}{self.days[day]}/{name}.csv.gz",
            Body=body(given),
            Metadata={"sent-at": at.isoformat()},
        )
        self.put_at[where] = time.time()
        self.ledger.puts(self.days[day], name, given, at)
        if by:
            self._steps(by)

    @rule(by=st.sampled_from([*STEPS, "publish", "publish"]))
    def runs(self, by: str) -> None:
        self._steps(by)

    @rule(step=st.sampled_from([*STEPS]))
    def runs_one_step(self, step: str) -> None:
        STEPS[step].run(FEED)
        getattr(self.ledger, step)()

    def _steps(self, by: str) -> None:
        for name, step in STEPS.items():
            step.run(FEED)
            getattr(self.ledger, name)()
            if name == by:
                return

    # --- people ---

    def _some(self, state: str) -> list[Batch]:
        return self.ledger.in_order(state)

    @precondition(lambda self: self._some("held"))
    @rule(pick=st.integers(0, 9))
    def accepts(self, pick: int) -> None:
        day = self._pick(self._some("held"), pick).day
        gate.accept(FEED, day, WHY, WHO)
        self.ledger.accept(day)

    @precondition(lambda self: self._some("held"))
    @rule(pick=st.integers(0, 9))
    def tries_held_ones_again(self, pick: int) -> None:
        day = self._pick(self._some("held"), pick).day
        load.reset_held(FEED, day)
        self.ledger.retry_held(day)

    @precondition(lambda self: any(self.ledger.open_rows()))
    @rule(pick=st.integers(0, 9))
    def rejects_a_row(self, pick: int) -> None:
        batch, line = self._pick(list(self.ledger.open_rows()), pick)
        assert quarantine.discard(FEED, [self._quarantined()[self._number(batch), line][0]], WHY, WHO) == 1
        self.ledger.discard(batch, line)

    @precondition(lambda self: any(self.ledger.open_rows()))
    @rule(pick=st.integers(0, 9), all_of_it=st.booleans(), value=st.sampled_from([None, 7, 8]))
    def replays(self, pick: int, all_of_it: bool, value: int | None) -> None:
        batch, line = self._pick(list(self.ledger.open_rows()), pick)
        lines = [n for of, n in self.ledger.open_rows() if of is batch] if all_of_it else [line]
        ids = self._quarantined()
        file = self.folder / "corrected.csv"
        given = [f"{ids[self._number(batch), n][0]},{-1 if value is None else value}\n" for n in sorted(lines)]
        file.write_text("_quarantine_id,value_hkd\n" + "".join(given))
        new = self.ledger.replay(batch, sorted(lines), value)
        if new.state == "withdrawn":
            with pytest.raises(PermanentFailure, match="withdrawn as batch"):
                quarantine.replay(FEED, corrected=file)
        else:
            assert quarantine.replay(FEED, corrected=file)["rows"] == len(lines)

    @precondition(lambda self: self._some("published"))
    @rule(pick=st.integers(0, 9), whole_day=st.booleans())
    def withdraws(self, pick: int, whole_day: bool) -> None:
        batch = self._pick(self._some("published"), pick)
        chosen = [b for b in self._some("published") if b is batch or (whole_day and b.day == batch.day)]
        how = Chosen(business_date=batch.day) if whole_day else Chosen(batch_id=self._number(batch))
        withdraw.run(FEED, how, WHY, WHO)
        self.ledger.withdraw(chosen)

    @precondition(lambda self: self._some("withdrawn"))
    @rule(pick=st.integers(0, 9))
    def undoes_a_withdrawal(self, pick: int) -> None:
        batch = self._pick(self._some("withdrawn"), pick)
        how = Chosen(batch_id=self._number(batch))
        if self.ledger.undo(batch):
            withdraw.undo(FEED, how, WHY, WHO)
        else:
            with pytest.raises(PermanentFailure, match="are not open any more"):
                withdraw.undo(FEED, how, WHY, WHO)

    # --- the judge ---

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        if not hasattr(self, "ledger"):
            return
        sampan, numbers = self.partner.sampan, self._numbers()
        assert len(numbers) == len(self.ledger.batches)
        states = "select state from ops.batch where batch_id = any(%s) order by batch_id"
        assert [state for (state,) in sampan.rows(states, numbers)] == [b.state for b in self.ledger.batches]
        found = {place: state for place, (_, state) in self._quarantined().items()}
        assert found == {(self._number(b), n): state for b in self.ledger.batches for n, state in b.quarantine.items()}
        visible = {
            (number, line): Row(*row)
            for number, line, *row in sampan.rows(
                f"select _batch_id, _line, declaration_no, version::int, value_hkd::int from raw.{FEED}"
                " where _batch_id = any(%s)", numbers
            )
        }  # fmt: skip
        assert visible == {
            (self._number(b), line): row
            for b in self.ledger.batches
            if b.state in ("published", "withdrawn")
            for line, row in b.rows.items()
            if row.value is not None
        }
        order = """
            select batch_id from ops.batch where batch_id = any(%s) and state = 'published'
            order by business_date, counts_from, batch_id
        """
        assert [number for (number,) in sampan.rows(order, numbers)] == [
            self._number(b) for b in self._some("published")
        ]

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self._steps("publish")
        self.the_ledger_says_what_the_model_says()
        holds_at_the_end(self.partner.sampan)
        sampan = self.partner.sampan
        for day, name in self.put_at:
            key = f"{CONTRACT.drop_prefix}{day}/{name}.csv.gz"
            sampan.s3.delete_object(Bucket=sampan.environment["SAMPAN_DROP_BUCKET"], Key=key)

    def _numbers(self) -> list[int]:
        query = "select batch_id from ops.batch where business_date = any(%s) order by batch_id"
        return [number for (number,) in self.partner.sampan.rows(query, self.days)]

    def _number(self, batch: Batch) -> int:
        """Its number in the ledger: both count batches in the order in which they came."""
        return self._numbers()[self.ledger.batches.index(batch)]

    def _quarantined(self) -> dict[tuple[int, int], tuple[int, str]]:
        """(quarantine id, state) of rows, by batch and line."""
        query = "select batch_id, line, quarantine_id, state from quarantine.record where batch_id = any(%s)"
        found = self.partner.sampan.rows(query, self._numbers())
        return {(batch, line): (number, state) for batch, line, number, state in found}

    @staticmethod
    def _pick(found: list[Any], pick: int) -> Any:
        return found[pick % len(found)]


class Building(Platform):
    """The same, with builds of the tables in which one row of a document is current."""

    @rule(full_refresh=st.booleans())
    def builds(self, full_refresh: bool) -> None:
        spine(full_refresh)
        if self.partner.sampan.one("select to_regclass('intermediate.int_customs__lines_versioned') is null"):
            assert self.ledger.current() == {}, "there is something to build"
            return
        found = self.partner.sampan.rows(
            "select declaration_no, version::int, value_hkd::int from intermediate.int_customs__lines_versioned"
            " where is_current and declaration_no like %s", f"DX{self.run:06}%", role="builder",
        )  # fmt: skip
        assert len(found) == len({document for document, *_ in found})
        assert {document: (version, value) for document, version, value in found} == self.ledger.current()


def runs(machine: type[Platform], partner: Partner, folder: Path, **how: Any) -> None:
    freshness.set_clock(NOW)
    bound = type(machine.__name__, (machine,), {"partner": partner, "folder": folder})
    run_state_machine_as_test(
        bound,
        settings=settings(
            deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True,
            **how,
        ),
    )  # fmt: skip


def test_what_counts_is_what_the_model_says_in_a_few_runs(partner, tmp_path):
    runs(Platform, partner, tmp_path, max_examples=4, stateful_step_count=12, derandomize=True, phases=[Phase.generate])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_counts_is_what_the_model_says(partner, tmp_path):
    runs(Platform, partner, tmp_path, max_examples=120, stateful_step_count=30, phases=[Phase.generate, Phase.shrink])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_current_rows_are_those_of_the_model_when_builds_come_between(partner, tmp_path, models_only):
    runs(Building, partner, tmp_path, max_examples=5, stateful_step_count=25, phases=[Phase.generate])
