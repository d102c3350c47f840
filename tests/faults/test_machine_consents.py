"""Consents are granted, revoked, lost and withdrawn, releases made and rolled back, in any order: no bank reads under one
that was revoked, and every reader sees one release.

`make faults SEED=...` repeats a run; what fails is printed as the calls that lead to it.
"""

from __future__ import annotations

import itertools
from datetime import date
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
from sampan import consent
from sampan.ingest import withdraw
from sampan.ingest.withdraw import Chosen
from sampan.marts import release

from tests.factory import Partner
from tests.faults.invariants import holds_at_any_moment
from tests.integration.test_consent import TODAY, YESTERDAY, bank, change, make_release, seen
from tests.integration.test_consent_lost import lines

FEED = "cdi_consents"
SCOPE = "trade_declaration"
# Consents of a run of the machine, and sound rows that keep one bad row within the budget of the feed.
CONSENTS, FILLERS = 4, 60
RUNS = itertools.count(1_000, 100)


class Consents(RuleBasedStateMachine):
    """Consents and releases beside a model that knows who may be read for sure, and who for sure not."""

    partner: ClassVar[Partner]
    folder: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.first = next(RUNS)
        self.names = itertools.count()
        # What each published batch says, by its number: (consent, status); whether it counts.
        self.said: dict[int, tuple[int, str]] = {}
        self.withdrawn: set[int] = set()
        self.revoked: set[int] = set()
        # Of these it is for people to say whether they hold.
        self.doubtful: set[int] = set()
        self.releases: list[int] = []
        # Roles of banks are made with the release that follows their first consent.
        self._deliver()
        self._release()

    def _deliver(self, *records: dict[str, Any], day: date = TODAY) -> tuple[int, str]:
        """Number and state of the batch of a delivery."""
        fillers = [change(self.first + 10 + n, channel=f"branch {next(self.names)}") for n in range(FILLERS)]
        self.partner.sampan.deliver(FEED, day, f"{self.first}_{next(self.names)}.jsonl", lines(*records, *fillers))
        self.partner.sampan.ingest(FEED)
        batch = self.partner.sampan.batch(FEED)
        return batch["batch_id"], batch["state"]

    def _release(self) -> None:
        numbers = [self.first + n for n in range(CONSENTS)]
        self.live = make_release(dead_rows_too=False, numbers=numbers)
        self.releases = [self.live, *self.releases][: release.KEEP]

    # --- what happens ---

    @rule(which=st.integers(0, CONSENTS - 1))
    def grants(self, which: int) -> None:
        number = self.first + which
        batch, state = self._deliver(change(number))
        assert state == "published"
        self.said[batch] = number, "granted"

    @rule(which=st.integers(0, CONSENTS - 1), status=st.sampled_from(["revoked", "expired"]))
    def revokes_by_the_feed(self, which: int, status: str) -> None:
        number = self.first + which
        batch, state = self._deliver(change(number, status, YESTERDAY))
        assert state == "published"
        self.said[batch] = number, status
        if status == "revoked":
            self.revoked.add(number)

    @rule(which=st.integers(0, CONSENTS - 1), whole=st.booleans())
    def loses_a_revocation(self, which: int, whole: bool) -> None:
        """A row in quarantine, or a delivery that is held: what it says is suspended."""
        number = self.first + which
        bad = [change(number, f"revoke{n}", YESTERDAY) for n in range(9 if whole else 1)]
        _, state = self._deliver(*bad)
        assert state == ("held" if whole else "published")
        self.doubtful.add(number)

    @rule(which=st.integers(0, CONSENTS - 1))
    def revokes_by_a_person(self, which: int) -> None:
        number = self.first + which
        consent.revoke(f"CS{number:010}", "the owner rang", "wong")
        self.revoked.add(number)

    @precondition(lambda self: set(self.said) - self.withdrawn)
    @rule(pick=st.integers(0, 9))
    def withdraws(self, pick: int) -> None:
        found = sorted(set(self.said) - self.withdrawn)
        batch = found[pick % len(found)]
        withdraw.run(FEED, Chosen(batch_id=batch), "of another month", "wong")
        self.withdrawn.add(batch)
        self.doubtful.add(self.said[batch][0])

    @precondition(lambda self: self.withdrawn)
    @rule(pick=st.integers(0, 9))
    def undoes_a_withdrawal(self, pick: int) -> None:
        batch = sorted(self.withdrawn)[pick % len(self.withdrawn)]
        withdraw.undo(FEED, Chosen(batch_id=batch), "it was right", "wong")
        self.withdrawn.discard(batch)

    @rule()
    def releases_again(self) -> None:
        self._release()

    # To releases of this run: those of the run before, in the same installation, are kept as well.
    @precondition(lambda self: any(number < self.live for number in self.releases))
    @rule()
    def rolls_back(self) -> None:
        release.rollback()
        self.live = max(number for number in self.releases if number < self.live)

    # --- the judge ---

    @invariant()
    def a_bank_reads_what_holds_and_nothing_that_was_revoked(self) -> None:
        if not hasattr(self, "live"):
            return
        with bank() as connection:
            found = {int(number[2:]) for _, number, scope in seen(connection) if scope == SCOPE}
        assert found.isdisjoint(self.revoked)
        says = [said for batch, said in self.said.items() if batch not in self.withdrawn]
        granted = {number for number, status in says if status == "granted"}
        ended = {number for number, status in says if status != "granted"}
        may = granted - self.revoked
        assert found <= may
        # A row that left a release because its consent did not hold then comes back with the next one only.
        if self.is_new:
            assert found >= may - ended - self.doubtful

    @property
    def is_new(self) -> bool:
        """Whether the live release has a row of each consent."""
        query = "select count(distinct consent_id) from consented_{}.mart_credit_features where consent_scope = '{}'"
        return self.partner.sampan.one(query.format(self.live, SCOPE), role="builder") == CONSENTS

    @invariant()
    def a_reader_sees_one_release(self) -> None:
        if hasattr(self, "live"):
            shown = self.partner.sampan.rows("select distinct release_no from marts.mart_open", role="bi")
            assert shown == [(self.live,)]

    def teardown(self) -> None:
        holds_at_any_moment(self.partner.sampan)


def runs(partner: Partner, folder: Path, **how: Any) -> None:
    bound = type("Consents", (Consents,), {"partner": partner, "folder": folder})
    checks = list(HealthCheck)
    run_state_machine_as_test(
        bound, settings=settings(deadline=None, database=None, suppress_health_check=checks, print_blob=True, **how)
    )


def test_a_revoked_consent_opens_nothing_in_a_few_runs(partner, tmp_path):
    runs(partner, tmp_path, max_examples=2, stateful_step_count=10, derandomize=True, phases=[Phase.generate])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_revoked_consent_opens_nothing(partner, tmp_path):
    runs(partner, tmp_path, max_examples=25, stateful_step_count=20, phases=[Phase.generate, Phase.shrink])
