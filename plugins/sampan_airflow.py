"""What the DAG modules share: the asset of a feed, and the retries of tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule

POOL = "warehouse"
# A new installation waits for the next time of a schedule. By default Airflow would also run one of the last few hours.
FROM_NOW_ON = timedelta(0)

BUGS = ["psycopg.ProgrammingError"]
BUGS += [f"builtins.{name}Error" for name in ("Assertion", "Attribute", "Import", "Lookup", "Name", "Type")]

# Transient failures and unexpected errors are retried with growing delays; permanent failures and bugs fail at once.
DEFAULTS: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
    "retry_policy": ExceptionRetryPolicy(
        [
            RetryRule("sampan.errors.PermanentFailure", RetryAction.FAIL, reason="a retry gives the same result"),
            RetryRule(BUGS, RetryAction.FAIL, reason="a retry does not fix a bug"),
        ]
    ),
    "execution_timeout": timedelta(hours=2),
}


# Its events mean that readers see another release.
RELEASE = Asset(name="release", uri="x-sampan://marts/release")


def asset_of(feed: str) -> Asset:
    """The asset whose events mean that `raw.<feed>` has new rows."""
    # With the prefix "x-" Airflow does not import all providers at every parse to look up the scheme.
    return Asset(name=feed, uri=f"x-sampan://raw/{feed}")
