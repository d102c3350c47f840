"""What was ordered of the simulator: which world, and how far it was delivered. Kept as `order.json` beside the truth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from itertools import islice
from pathlib import Path

from sampan.calendar import HONG_KONG, business_days

from infra.simulator.population import Population, make
from infra.simulator.world import Period, Plan, World

FILE = "order.json"


@dataclass(frozen=True)
class Order:
    """A world, and its business dates up to the one that is number `days` of those delivered one by one from `start` on.

    `until` is the time up to which partners have sent; None when all that belongs to those dates was sent.
    """

    seed: int = 20260706
    smes: int = 2000
    start: date = date(2026, 7, 6)
    days: int = 30
    history_from: date | None = None
    history_months: int = 3
    volume: float = 1.0
    faults: str = "default"
    feeds: str = ""
    until: datetime | None = None

    @property
    def last(self) -> date:
        """The last business date."""
        return next(islice(business_days(self.start), self.days - 1, None))

    @property
    def next_date(self) -> date:
        """The business date after the last one."""
        return next(islice(business_days(self.start), self.days, None))

    @property
    def feed_names(self) -> list[str] | None:
        """The feeds that are delivered; None for all."""
        return [name for name in self.feeds.split(",") if name] or None

    def world(self, population: Population | None = None, since: date | None = None) -> World:
        """The world up to the last business date. Those from `since` on are to be delivered."""
        return World(self.seed, population or make(self.seed, self.smes), self.schedule(), self.volume, since=since)

    def schedule(self) -> list[Period]:
        """The periods of the world up to the last business date."""
        return Plan(self.start, self.history_from, self.history_months).schedule(self.last)

    def is_of_the_world_of(self, other: Order) -> bool:
        """Whether both are about the same world, maybe at different times."""
        return replace(self, days=other.days, until=other.until) == other

    def save(self, folder: Path) -> None:
        """Keep it in a folder of truth."""
        (folder / FILE).write_text(json.dumps(asdict(self), default=str) + "\n")


def saved(folder: Path) -> Order | None:
    """The order that a folder of truth was made for, or None."""
    path = folder / FILE
    if not path.exists():
        return None
    known = json.loads(path.read_text())
    history, until = known["history_from"], known["until"]
    return Order(
        **known
        | {
            "start": date.fromisoformat(known["start"]),
            "history_from": date.fromisoformat(history) if history else None,
            "until": datetime.fromisoformat(until).astimezone(HONG_KONG) if until else None,
        }
    )
