"""What holds at every moment, also after kills and cuts, in any order: said once for all tests of faults.

Nothing is lost: every record of a batch is published, in quarantine or a duplicate. Nothing is doubled: it is so once.
Nothing is visible before its time: `raw` has rows of batches that were published, and of no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date

from sampan.contracts.model import Contract
from sampan.errors import TransientFailure

from tests.conftest import Sampan
from tests.factory import Row, adds_up, plain, stored


def holds_at_any_moment(sampan: Sampan) -> None:
    """What must be true also right after a crash, before anything runs again."""
    adds_up(sampan)
    partitions = {
        int(name.rpartition("__b")[2])
        for (name,) in sampan.rows(
            "select c.relname from pg_inherits join pg_class as c on c.oid = inhrelid"
            " join pg_class as p on p.oid = inhparent where p.relnamespace = 'raw'::regnamespace and c.relname ~ '__b[0-9]+$'"
        )
    }
    published = "select batch_id from ops.batch where state in ('published', 'withdrawn') and deleted_at is null"
    assert partitions == {number for (number,) in sampan.rows(published)}
    doubled = "select feed, batch_id, line from quarantine.record group by 1, 2, 3 having count(*) > 1"
    assert sampan.rows(doubled) == []


def holds_at_the_end(sampan: Sampan) -> None:
    """What must be true once every step has run again: nothing is on its way, and nothing is left lying about."""
    holds_at_any_moment(sampan)
    assert sampan.rows("select * from ops.feed_on_the_way") == []
    left = "select relname from pg_class where relnamespace = 'intake'::regnamespace and relkind in ('r', 'S')"
    held = {
        f"{feed}__b{number}"
        for feed, number in sampan.rows("select feed, batch_id from ops.batch where state = 'held'")
    }
    names = {name.removesuffix("__lines").removesuffix("__rejects") for (name,) in sampan.rows(left)}
    assert names <= held


def failure_of(work: Callable[[], object]) -> str:
    """Do the work; the text of its transient failure, or nothing when it was done. Any other error is a fault."""
    try:
        work()
    except TransientFailure as failure:
        return str(failure)
    return ""


def published_rows(sampan: Sampan, contract: Contract, days: Iterable[date]) -> list[tuple[str | None, ...]]:
    """All rows in raw of some business dates, as `tests.factory.stored` writes them."""
    names = ", ".join(f'r."{column.name}"' for column in contract.stored)
    query = (
        f'select {names} from raw."{contract.feed}" as r join ops.batch on batch_id = _batch_id'
        " where business_date = any(%s)"
    )
    found = sampan.rows(query, list(days))
    return sorted((tuple(plain(item) for item in row) for row in found), key=str)


def is_exactly(sampan: Sampan, contract: Contract, expected: Iterable[Row], days: Iterable[date]) -> None:
    """Every expected row is in raw once, and no other."""
    wanted, found = Counter(stored(contract, list(expected))), Counter(published_rows(sampan, contract, days))
    assert wanted, "an empty set proves nothing"
    assert not wanted - found, f"lost: {list((wanted - found).elements())[:3]}"
    assert not found - wanted, f"doubled or not delivered: {list((found - wanted).elements())[:3]}"
