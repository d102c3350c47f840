"""Every contract by its feed: the only list of feeds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from sampan.contracts import shorthand
from sampan.contracts.model import FEEDS, Contract
from sampan.contracts.parse import parse_contract
from sampan.contracts.validate import check, check_all
from sampan.errors import Code, PermanentFailure, Problem
from sampan.text import did_you_mean


@cache
def _contract(path: Path) -> Contract:
    try:
        return parse_contract(shorthand.read(path), path)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, yaml.YAMLError) as error:
        problems = check(path)
        raise PermanentFailure(
            problems[0] if problems else Problem(Code.CONTRACT_UNREADABLE, str(error), str(path))
        ) from error


@cache
def _all_contracts(folder: Path) -> dict[str, Contract]:
    contracts = {path.stem: _contract(path) for path in sorted(folder.glob("*.yaml"))}
    if not contracts:
        raise PermanentFailure(check_all(folder)[0])
    return contracts


def all_contracts(folder: Path | None = None) -> dict[str, Contract]:
    """Every contract by feed, in order of feed. Raises PermanentFailure for the first invalid one, and when there is none."""
    return _all_contracts(folder or FEEDS)


def feed_names() -> list[str]:
    """The feeds that have a contract, sorted; none is read."""
    return sorted(path.stem for path in FEEDS.glob("*.yaml"))


def get_contract(feed: str) -> Contract:
    """The contract of one feed; no other is read. Raises PermanentFailure when there is none."""
    if feed not in feed_names():
        message = f"no feed {feed!r}{did_you_mean(feed, feed_names(), 'feeds')}"
        raise PermanentFailure(Problem(Code.CONTRACT_UNKNOWN_FEED, message))
    return _contract(FEEDS / f"{feed}.yaml")
