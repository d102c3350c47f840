"""Metrics for monitoring, in Prometheus' text format: what is broken, what came in, what waits, how old the release is."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sampan.contracts.registry import feed_names
from sampan.database import connect
from sampan.errors import SampanError
from sampan.monitoring import broken

# Seconds for which an answer is given again: however often somebody asks, the warehouse is asked no more often.
FRESH = 5.0


def text() -> str:
    """Every metric as it is now. Names begin with sampan_; times are seconds since 1970."""
    registry = CollectorRegistry()

    def gauge(name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(f"sampan_{name}", help_, labels, registry=registry)

    faults = gauge("faults", "What is broken now: deliveries, or marts that wait.", "subject", "state")
    batches = gauge("batches", "Batches in the ledger.", "feed", "state")
    rows = gauge("rows", "Rows of batches.", "feed", "outcome")
    published = gauge("feed_published_timestamp_seconds", "When the newest batch of a feed was published.", "feed")
    quarantine = gauge("quarantine_open_rows", "Rows in quarantine that wait for a decision.", "feed")
    waiting = gauge("batches_waiting_for_build", "Published batches that no build has taken in.")
    release = gauge("release_number", "The release that readers see.")
    released = gauge("release_activated_timestamp_seconds", "Since when readers see it.")
    alerts = gauge("alerts_open", "Alerts of the last 7 days that no one has acknowledged.", "severity")
    messages = gauge("alert_messages", "Messages about alerts.", "state")

    for feed in feed_names():
        for code in ("held", "refused", "late_here", "late_at_partner"):
            faults.labels(feed, code).set(0)
    faults.labels("build", "failed").set(0)
    with connect("builder") as connection:
        for fault in broken.faults(connection):
            faults.labels(fault.subject, fault.code).inc(fault.count)
        for feed, state, count in connection.execute("select feed, state, count(*) from ops.batch group by 1, 2"):
            batches.labels(feed, state).set(count)
        sums = """
            select feed, coalesce(sum(rows_published), 0), coalesce(sum(rows_quarantined), 0),
                coalesce(sum(rows_duplicate), 0), coalesce(sum(rows_held), 0),
                extract(epoch from max(published_at))
            from ops.batch group by feed
        """
        for feed, *counts, newest in connection.execute(sums):
            for outcome, count in zip(("published", "quarantined", "duplicate", "held"), counts, strict=True):
                rows.labels(feed, outcome).set(count)
            if newest is not None:
                published.labels(feed).set(newest)
        for feed, count in connection.execute(
            "select feed, count(*) from quarantine.record where state = 'open' group by feed"
        ):
            quarantine.labels(feed).set(count)
        for (count,) in connection.execute("select count(*) from ops.batches_waiting"):
            waiting.set(count)
        for number, at in connection.execute(
            "select release_no, extract(epoch from activated_at) from ops.release_activation"
            " order by activation_no desc limit 1"
        ):
            release.set(number)
            released.set(at)
        for severity, count in connection.execute(
            "select severity, count(*) from ops.alert"
            " where acknowledged_at is null and raised_at > clock_timestamp() - interval '7 days' group by severity"
        ):
            alerts.labels(severity).set(count)
        for state, count in connection.execute("select state, count(*) from ops.alert_message group by state"):
            messages.labels(state).set(count)
    return generate_latest(registry).decode()


def endpoint(token: str, read: Callable[[], str] = text) -> Starlette:
    """A web application with the metrics at /metrics, for who brings the token as `Authorization: Bearer`."""
    lock, kept, until = threading.Lock(), "", float("-inf")

    def current() -> str:
        nonlocal kept, until
        with lock:
            if time.monotonic() > until:
                kept, until = read(), time.monotonic() + FRESH
            return kept

    def answer(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return PlainTextResponse("no\n", 401, headers={"www-authenticate": "Bearer"})
        try:
            return Response(current(), headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"})
        except SampanError:
            # What went wrong is for the log of who runs it: it may name the warehouse.
            return PlainTextResponse("the warehouse does not answer\n", 503)

    return Starlette(routes=[Route("/metrics", answer)])
