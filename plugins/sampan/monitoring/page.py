"""The status page: what is broken now and since when, as one static HTML file in English and traditional Chinese. Beside it
lies a page of every check at the gates.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from sampan.calendar import HONG_KONG
from sampan.contracts.registry import all_contracts
from sampan.database import connect, scalar
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts.release import list_releases
from sampan.monitoring import broken, gates, status
from sampan.settings import settings
from sampan.text import printable

STATES_ZH = {
    "failed": "未能建立", "carried": "沿用較早的版本", "held": "檢查後暫扣", "refused": "拒收", "late_here": "未能如期發布",
    "late_at_partner": "夥伴逾期未交",
}  # fmt: skip
TEMPLATE = Path(__file__).with_name("status_page.html.jinja")


def default_path() -> Path:
    """Where the page lies: SAMPAN_STATUS_PAGE, or the state folder's status/index.html."""
    return Path(settings().get("SAMPAN_STATUS_PAGE", "") or settings().state / "status" / "index.html")


def write(path: Path | None = None) -> Path:
    """Write the page, and beside it that of the gates; who reads one meanwhile sees that of before.

    Raises PermanentFailure when it cannot be written.
    """
    path = (path or default_path()).resolve()
    for file, text in ((path.with_name(gates.NAME), gates.render(path.name)), (path, render())):
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(file)
        except OSError as error:
            raise PermanentFailure(Problem(Code.STATUS_PAGE, error.strerror or str(error), str(path))) from error
    return path


def render() -> str:
    """The page as HTML. It names feeds, files and rules, and no value of a row."""
    with connect("builder") as connection:
        faults = broken.faults(connection)
        judged_at: datetime = scalar(connection, "select ops.now()")
        delivered = {feed for (feed,) in connection.execute("select distinct feed from ops.batch").fetchall()}
    with connect() as connection:
        quarantine = connection.execute(
            "select feed, count(*) from quarantine.record where state = 'open' group by feed order by 2 desc, 1"
        ).fetchall()
    contracts, release = all_contracts(), status.live_release()
    of_feeds = {fault.subject for fault in faults}
    rows = [
        {
            "grave": fault.code in ("failed", "carried", "held", "refused", "late_here"),
            "subject": fault.subject,
            "title": contracts[fault.subject].title if fault.subject in contracts else "",
            "owner": contracts[fault.subject].owner if fault.subject in contracts else "",
            "state": fault.state,
            "state_zh": STATES_ZH[fault.code],
            "dates": fault.dates or "",
            "count": fault.count,
            "since": f"{fault.since:%F %R}" if fault.since else "",
            "why": printable(fault.why, ""),
        }
        for fault in faults
    ]
    return gates.filled(
        TEMPLATE,
        gates=gates.NAME,
        faults=rows,
        judged_at=f"{judged_at.astimezone(HONG_KONG):%F %R}",
        written_at=f"{datetime.now(HONG_KONG):%F %R}",
        well=sorted(delivered - of_feeds),
        silent=sorted(set(contracts) - delivered - of_feeds),
        release=release and {"number": release[0], "since": f"{release[1].astimezone(HONG_KONG):%F %R}"},
        releases=[
            item | {"released_at": f"{item['released_at'].astimezone(HONG_KONG):%F %R}"} for item in list_releases()
        ],
        quarantine=quarantine,
    )
