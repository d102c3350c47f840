"""The two kinds of failure. Permanent: bad data, contract or settings; a retry cannot help. Transient: a retry may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sampan.text import printable

PAGE = "docs/problems.md"


class Code(StrEnum):
    """What kind of problem it is: docs/problems.md says what each means and what to do."""

    ALERT_REASON = "alert.reason"
    ALERT_UNKNOWN = "alert.unknown"
    API_AWAY = "api.away"
    API_REDIRECTED = "api.redirected"
    API_REFUSED = "api.refused"
    API_SHAPE = "api.shape"
    API_TOO_LARGE = "api.too_large"
    AS_KNOWN_BASIS = "as_known.basis"
    AS_KNOWN_GATE = "as_known.gate"
    AS_KNOWN_IN_USE = "as_known.in_use"
    AS_KNOWN_NOTHING = "as_known.nothing"
    AS_KNOWN_UNKNOWN = "as_known.unknown"
    AS_KNOWN_VIEWS = "as_known.views"
    BATCH_HELD = "batch.held"
    BATCH_REJECTION_BUDGET = "batch.rejection_budget"
    BATCH_RULES = "batch.rules"
    BATCH_UNPROCESSABLE = "batch.unprocessable"
    BUILD_FAILED = "build.failed"
    BUILD_ORDER = "build.order"
    BUILD_UNKNOWN_STEP = "build.unknown_step"
    CALENDAR_CLOSURE = "calendar.closure"
    CALENDAR_REASON = "calendar.reason"
    CONSENT_NOT_SUSPENDED = "consent.not_suspended"
    CONSENT_REASON = "consent.reason"
    CONSENT_UNKNOWN = "consent.unknown"
    CONTRACT_BUDGET = "contract.budget"
    CONTRACT_CALENDAR = "contract.calendar"
    CONTRACT_COLUMN = "contract.column"
    CONTRACT_CORRECTIONS = "contract.corrections"
    CONTRACT_DRIFT = "contract.drift"
    CONTRACT_EXPECTATION = "contract.expectation"
    CONTRACT_ID = "contract.id"
    CONTRACT_INVALID = "contract.invalid"
    CONTRACT_KEY = "contract.key"
    CONTRACT_MISSING = "contract.missing"
    CONTRACT_NONE = "contract.none"
    CONTRACT_OPTION = "contract.option"
    CONTRACT_PATTERN = "contract.pattern"
    CONTRACT_PERSONAL_DATA = "contract.personal_data"
    CONTRACT_PREDICATE = "contract.predicate"
    CONTRACT_REQUEST = "contract.request"
    CONTRACT_RETENTION = "contract.retention"
    CONTRACT_RULE = "contract.rule"
    CONTRACT_SCHEMA = "contract.schema"
    CONTRACT_SERVER = "contract.server"
    CONTRACT_SHAPE = "contract.shape"
    CONTRACT_SPAN = "contract.span"
    CONTRACT_STANDARD = "contract.standard"
    CONTRACT_TYPE = "contract.type"
    CONTRACT_UNKNOWN_FEED = "contract.unknown_feed"
    CONTRACT_UNKNOWN_PROPERTY = "contract.unknown_property"
    CONTRACT_UNREADABLE = "contract.unreadable"
    CONTRACT_YAML = "contract.yaml"
    DELIVERY_CORRUPT = "delivery.corrupt"
    DELIVERY_DENIED = "delivery.denied"
    DELIVERY_EMPTY = "delivery.empty"
    DELIVERY_FUTURE_DATE = "delivery.future_date"
    DELIVERY_GONE = "delivery.gone"
    DELIVERY_HEADER_MISSING_COLUMN = "delivery.header_missing_column"
    DELIVERY_HEADER_PERSONAL_DATA = "delivery.header_personal_data"
    DELIVERY_HEADER_REPEATED = "delivery.header_repeated"
    DELIVERY_HEADER_UNKNOWN_COLUMN = "delivery.header_unknown_column"
    DELIVERY_HEADER_UNREADABLE = "delivery.header_unreadable"
    DELIVERY_HEADER_UNRECOGNISED = "delivery.header_unrecognised"
    DELIVERY_KEY = "delivery.key"
    DELIVERY_MARKER = "delivery.marker"
    DELIVERY_NO_BUSINESS_DATE = "delivery.no_business_date"
    DELIVERY_NO_FEED = "delivery.no_feed"
    DELIVERY_NO_ROWS = "delivery.no_rows"
    DELIVERY_OTHER_FORMAT = "delivery.other_format"
    DELIVERY_PAST_RETENTION = "delivery.past_retention"
    DELIVERY_RECORD_TOO_LONG = "delivery.record_too_long"
    DELIVERY_SHEET_MISSING = "delivery.sheet_missing"
    DELIVERY_SHEET_SECOND = "delivery.sheet_second"
    DELIVERY_TOO_LARGE = "delivery.too_large"
    DELIVERY_TOO_SLOW = "delivery.too_slow"
    DELIVERY_TRUNCATED = "delivery.truncated"
    DERIVE_STALE = "derive.stale"
    DISCLOSURE_UNPROTECTED = "disclosure.unprotected"
    EXPECTATIONS_MART = "expectations.mart"
    EXPECTATIONS_RULE = "expectations.rule"
    FAILURE = "failure"
    GATE_ACCEPT = "gate.accept"
    GATE_CANNOT_EVALUATE = "gate.cannot_evaluate"
    GATE_EXPECTATION = "gate.expectation"
    GATE_REASON = "gate.reason"
    IDENTITY_REASON = "identity.reason"
    IDENTITY_REVIEW = "identity.review"
    IDENTITY_UNKNOWN = "identity.unknown"
    IDENTITY_VERDICT = "identity.verdict"
    LAKE_REFUSED = "lake.refused"
    LAKE_VALUE = "lake.value"
    LINEAGE_REFUSED = "lineage.refused"
    LOGIN_NAME = "login.name"
    LOGIN_ROLE = "login.role"
    PRIMARY_KEY_CONTRADICTING_ROWS = "primary_key.contradicting_rows"
    QUARANTINE_COLUMNS = "quarantine.columns"
    QUARANTINE_DISCARD = "quarantine.discard"
    QUARANTINE_HELD = "quarantine.held"
    QUARANTINE_ID = "quarantine.id"
    QUARANTINE_INCOMPLETE = "quarantine.incomplete"
    QUARANTINE_NOTHING_TO_REPLAY = "quarantine.nothing_to_replay"
    QUARANTINE_PSEUDONYM = "quarantine.pseudonym"
    QUARANTINE_REASON = "quarantine.reason"
    QUARANTINE_UNDER_WAY = "quarantine.under_way"
    QUARANTINE_UNREADABLE = "quarantine.unreadable"
    RECORD_BAD_QUOTE = "record.bad_quote"
    RECORD_DUPLICATE_KEY = "record.duplicate_key"
    RECORD_ENCODING = "record.encoding"
    RECORD_NOT_AN_OBJECT = "record.not_an_object"
    RECORD_NOT_JSON = "record.not_json"
    RECORD_NUL = "record.nul"
    RECORD_TOO_FEW_FIELDS = "record.too_few_fields"
    RECORD_TOO_LONG = "record.too_long"
    RECORD_TOO_MANY_FIELDS = "record.too_many_fields"
    RECORD_TOO_SHORT = "record.too_short"
    RECORD_UNCLOSED_QUOTE = "record.unclosed_quote"
    RELEASE_EXPECTATIONS = "release.expectations"
    RELEASE_FINDING = "release.finding"
    RELEASE_GATE = "release.gate"
    RELEASE_GRANTS = "release.grants"
    RELEASE_NOT_BUILT = "release.not_built"
    RELEASE_REASON = "release.reason"
    RELEASE_REVISION = "release.revision"
    RELEASE_ROW_SECURITY = "release.row_security"
    RELEASE_UNKNOWN = "release.unknown"
    RELOAD_REFUSED = "reload.refused"
    REPLAY_DECIDED = "replay.decided"
    REPORT_COLUMN = "report.column"
    REPORT_QUERY = "report.query"
    REQUEST_NOT_ALLOWED = "request.not_allowed"
    REQUEST_NOT_ASKED = "request.not_asked"
    REQUEST_OWN = "request.own"
    REQUEST_SUBJECT = "request.subject"
    RETENTION_ENDED = "retention.ended"
    RETENTION_IN_USE = "retention.in_use"
    RETENTION_MOST = "retention.most"
    SETTINGS_ENGINE = "settings.engine"
    SETTINGS_LAKE = "settings.lake"
    SETTINGS_MISSING = "settings.missing"
    SETTINGS_PSEUDONYM_KEY = "settings.pseudonym_key"
    STATUS_PAGE = "status.page"
    TRANSFER_CONTRACT = "transfer.contract"
    TRANSFER_CONTRACT_TAKEN = "transfer.contract_taken"
    TRANSFER_FILED = "transfer.filed"
    TRANSFER_NO_CONTRACT = "transfer.no_contract"
    TRANSFER_NO_MART = "transfer.no_mart"
    TRANSFER_OLD_RELEASE = "transfer.old_release"
    TRANSFER_REFUSED = "transfer.refused"
    TRANSFER_TARGET = "transfer.target"
    WAREHOUSE_LATER = "warehouse.later"
    WAREHOUSE_REFUSED = "warehouse.refused"
    WAREHOUSE_SCHEMA_OWNER = "warehouse.schema_owner"
    WAREHOUSE_SERVER = "warehouse.server"
    WITHDRAW_DECIDED = "withdraw.decided"
    WITHDRAW_NOTHING = "withdraw.nothing"
    WITHDRAW_REASON = "withdraw.reason"


@dataclass(frozen=True)
class Problem:
    """What is wrong and where: the code, a message and, if known, file, line and column."""

    rule: Code
    message: str
    file: str | None = None
    line: int | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{where + ': ' if where else ''}{self.message} [{self.rule}]"

    @property
    def page(self) -> str:
        """Where the meaning of the code and the remedy are written."""
        return f"{PAGE}#{self.rule.replace('.', '')}"

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Problem:
        """A problem as the ledger stored it, which may also say who accepted it."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})

    def as_dict(self) -> dict[str, object]:
        """The fields that are set, as the ledger stores them."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class SampanError(Exception):
    """Base of every failure that Sampan reports on purpose; its text is written for the person who reads it."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class PermanentFailure(SampanError):
    """A retry gives the same result: hold the work and notify its owner."""

    def __init__(self, problem: Problem | str) -> None:
        self.problem = problem if isinstance(problem, Problem) else Problem(Code.FAILURE, problem)
        super().__init__(f"{self.problem}; see {self.problem.page}")

    def __reduce__(self) -> tuple[type[PermanentFailure], tuple[Problem]]:
        """Errors of a child process are pickled; by default its text would become the problem."""
        return type(self), (self.problem,)


class SettingsFailure(PermanentFailure):
    """A setting is missing or wrong: the installation is at fault, not the data, so no batch is held for it."""


class TransientFailure(SampanError):
    """The network, a restarting database, a partner's API in trouble: a retry may help, after `retry_after` seconds."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def require_reason(reason: str, rule: Code) -> None:
    """Raise PermanentFailure when a decision is made without a reason."""
    if not reason.strip():
        raise PermanentFailure(Problem(rule, "give a reason: it is stored with the decision"))
