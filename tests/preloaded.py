"""What the process has imported that commands of tests are forked from: seconds of processor for each of them otherwise."""

from __future__ import annotations

import os

# Both are read at import: the width of the command's console, and what the library sets before it checks anything.
os.environ |= {"COLUMNS": "200", "GX_ANALYTICS_ENABLED": "false"}

import great_expectations  # noqa: F401
import sampan.cli.app

# What commands import when they run.
import sampan.governance.retention
import sampan.governance.transfer
import sampan.identity.review
import sampan.ingest.quarantine
import sampan.ingest.reload
import sampan.marts.as_known
import sampan.monitoring.page
import sampan.warehouse.logins  # noqa: F401

# What reads the words of a command imports it with the first one.
import typer._adapters  # noqa: F401
