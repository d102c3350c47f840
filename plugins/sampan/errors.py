"""The two kinds of failure. Permanent: bad data or a bad contract, retrying cannot help. Transient: it may."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Problem:
    """What is wrong and where: the rule that was broken and, as far as known, file, line and column."""

    rule: str
    message: str
    file: str | None = None
    line: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{where + ': ' if where else ''}{self.message} [{self.rule}]"

    def as_dict(self) -> dict[str, object]:
        """What is known of it, as the ledger stores it."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class SampanError(Exception):
    """Base of every failure that Sampan reports on purpose; its text is fit for the person who reads it."""


class PermanentFailure(SampanError):
    """Trying again gives the same result: hold the work and tell its owner."""

    def __init__(self, problem: Problem | str) -> None:
        self.problem = problem if isinstance(problem, Problem) else Problem("failure", problem)
        super().__init__(str(self.problem))


class TransientFailure(SampanError):
    """The network, a database that restarts, a partner's API in trouble: trying again may help."""


def require_reason(reason: str, rule: str) -> None:
    """Raise PermanentFailure when a person gives no reason for a decision."""
    if not reason.strip():
        raise PermanentFailure(Problem(rule, "say why: the reason is kept with the decision"))
