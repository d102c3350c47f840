"""What the process has imported that commands of tests are forked from: seconds of processor for each of them otherwise."""

from __future__ import annotations

import os

# Both are read at import: the width of the command's console, and what the library sets before it checks anything.
os.environ |= {"COLUMNS": "200", "GX_ANALYTICS_ENABLED": "false"}

import great_expectations  # noqa: F401
import sampan.cli.app  # noqa: F401
