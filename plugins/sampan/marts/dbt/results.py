"""What came of a step of the build, by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Statuses of a node that does not have to run again.
DONE = ("success", "pass", "warn", "no-op")


@dataclass(frozen=True)
class NodeResult:
    """What came of one node. `rows` and `failures` are None where they do not apply; `message` quotes no row."""

    node: str
    resource_type: str
    status: str
    seconds: float
    rows: int | None
    failures: int | None
    message: str | None

    @classmethod
    def of(
        cls,
        node: str,
        status: str,
        seconds: float,
        response: Mapping[str, Any] | None,
        failures: int | None,
        message: str | None,
    ) -> NodeResult:
        """From what dbt says of a node, given by its unique id."""
        rows = (response or {}).get("rows_affected")
        rows = rows if isinstance(rows, int) and rows >= 0 else None
        return cls(node, node.split(".")[0], status, float(seconds), rows, failures, without_rows(message))

    @property
    def is_broken(self) -> bool:
        """Whether the node failed, rather than being skipped because another one did."""
        return self.status in ("error", "fail", "runtime error")

    @property
    def is_done(self) -> bool:
        """Whether the node does not have to run again."""
        return self.status in DONE


@dataclass(frozen=True)
class StepResult:
    """What came of a step: its nodes, why dbt itself failed (if it did), and whether trying again may help."""

    nodes: tuple[NodeResult, ...] = ()
    error: str = ""
    is_transient: bool = False

    @property
    def is_done(self) -> bool:
        """Whether dbt and every node succeeded."""
        return not self.error and all(node.is_done for node in self.nodes)

    @property
    def problem(self) -> str:
        """What failed, with each broken node by its name; empty when nothing did."""
        broken = (node for node in self.nodes if node.is_broken)
        return "; ".join(f"{node.node.split('.')[2]}: {node.message or node.status}" for node in broken) or self.error


def without_rows(message: str | None) -> str | None:
    """A database's message in one line, without the part that quotes rows."""
    if not message:
        return None
    lines = []
    for line in message.splitlines():
        if line.strip().startswith(("DETAIL:", "CONTEXT:", "LINE ", "compiled code at")):
            break
        lines.append(line.strip())
    return " ".join(lines)
