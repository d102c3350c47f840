"""What the DAG modules share: the asset of a feed, and how tasks fail and try again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule

POOL = "warehouse"
# A new installation waits for the next time of a schedule; by itself Airflow makes up for one up to some hours ago.
FROM_NOW_ON = timedelta(0)

BUGS = ["psycopg.ProgrammingError"]
BUGS += [f"builtins.{name}Error" for name in ("Assertion", "Attribute", "Import", "Lookup", "Name", "Type")]

# Transient failures, and what nobody thought of, are tried again, ever later; permanent ones and bugs fail at once.
DEFAULTS: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
    "retry_policy": ExceptionRetryPolicy(
        [
            RetryRule("sampan.errors.PermanentFailure", RetryAction.FAIL, reason="trying again gives the same result"),
            RetryRule(BUGS, RetryAction.FAIL, reason="a mistake in the program does not go away by itself"),
        ]
    ),
    "execution_timeout": timedelta(hours=2),
}


def asset_of(feed: str) -> Asset:
    """The asset that says: `raw.<feed>` has new rows."""
    # For a scheme of one's own, "x-" spares every parse the import of all providers that know schemes.
    return Asset(name=feed, uri=f"x-sampan://raw/{feed}")
