"""Check tables with Great Expectations: rules go in, results with counts come out, never a value of a row.

The caller decides what follows: a `CheckResult` says what failed and how severe that is, and the gate acts on it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from sampan.contracts.model import Rule
from sampan.database import is_transient_state
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure

# Expectations whose observed value is a count, a sum or a share. The others are evaluated without one.
COUNTED = frozenset(
    {
        "expect_table_row_count_to_be_between",
        "expect_table_row_count_to_equal",
        "expect_column_sum_to_be_between",
        "expect_column_mean_to_be_between",
        "expect_column_proportion_of_non_null_values_to_be_between",
        "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_unique_value_count_to_be_between",
    }
)
# The threads of a process share one data source, which keeps its tables by name: one check at a time.
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class CheckResult:
    """The result of one rule. `observed` is a count, sum or share (`{"value": 12}`), or None."""

    rule: str
    description: str
    expectation: str
    column: str | None
    severity: str
    success: bool
    kwargs: dict[str, Any]
    observed: dict[str, float] | None = None

    @property
    def critical(self) -> bool:
        """Whether this result alone holds a batch or stops a release."""
        return not self.success and self.severity == "critical"


@cache
def _data_source(dsn: str, process: int) -> Any:
    """One Great Expectations data source per database and process: a fork must not use its parent's connections."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # A module of it sets a level of its own; two hundred lines of each check would hide the one that counts.
    for noisy in ("great_expectations", ProgressBarsConfig.__module__):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    context = great_expectations.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    # An ephemeral context has its configuration in memory. To write that as YAML, for no one, took half of each check.
    context.variables.save = lambda: None
    sources: Any = context.data_sources
    return sources.add_postgres(
        "warehouse",
        connection_string="postgresql+psycopg://creator@warehouse/creator",
        create_temp_table=False,
        # Autocommit: an open transaction would hold a lock on the intake table, which publish attaches.
        kwargs={
            "creator": lambda: psycopg.connect(dsn, autocommit=True, application_name="sampan-gate"),
            "isolation_level": "AUTOCOMMIT",
            "pool_size": 1,
            "pool_pre_ping": True,
        },
    )


def _fill(value: Any, tokens: Mapping[str, object]) -> Any:
    """`value` with each `{token}` in its strings replaced."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: str(tokens.get(found[1], found[0])), value)
    if isinstance(value, Mapping):
        return {key: _fill(item, tokens) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(item, tokens) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def validate(
    suite: str,
    rules: Iterable[Rule],
    schema: str,
    table: str,
    dsn: str,
    tokens: Mapping[str, object] | None = None,
    rows: int | None = None,
) -> list[CheckResult]:
    """Check one table against every rule that has an expectation. Returns the results in the order of `rules`.

    `tokens` (business_date, ...) replace `{name}` in the arguments of expectations. `rows`: how many rows the table has,
    where that is known: bounds of it then need neither a query nor the library. Raises TransientFailure when the database
    is unreachable and PermanentFailure when a rule cannot be evaluated: neither says anything about the data.
    """
    wanted = [rule for rule in rules if rule.expectation is not None]
    if not wanted:
        return []
    filled = {rule.name: _fill(rule.kwargs, tokens or {}) for rule in wanted}
    counted = [] if rows is None else [rule for rule in wanted if _bounds_rows(rule)]
    found: dict[str, tuple[bool, Any]] = {
        rule.name: (_is_within(rows or 0, filled[rule.name]), rows) for rule in counted
    }
    others = [rule for rule in wanted if rule.name not in found]
    if others:
        found |= _validated(suite, others, filled, schema, table, dsn)
    return [
        CheckResult(
            rule=rule.name,
            description=rule.description,
            expectation=str(rule.expectation),
            column=filled[rule.name].get("column"),
            severity=rule.severity,
            success=found[rule.name][0],
            kwargs=filled[rule.name],
            observed=_number(found[rule.name][1]),
        )
        for rule in wanted
    ]


def _bounds_rows(rule: Rule) -> bool:
    """Whether a rule only bounds the number of rows."""
    return rule.expectation == "expect_table_row_count_to_be_between" and rule.kwargs.keys() <= {
        "min_value",
        "max_value",
    }


def _is_within(rows: int, bounds: Mapping[str, Any]) -> bool:
    least, most = bounds.get("min_value"), bounds.get("max_value")
    return (least is None or rows >= least) and (most is None or rows <= most)


def _validated(
    suite: str, wanted: Sequence[Rule], filled: Mapping[str, dict[str, Any]], schema: str, table: str, dsn: str
) -> dict[str, tuple[bool, Any]]:
    """Success and observed value by rule, by Great Expectations."""
    source = asset = None
    with ONE_AT_A_TIME:
        try:
            source = _data_source(dsn, os.getpid())
            with warnings.catch_warnings():
                # The warning asks for the schema in the connection, but it differs from batch to batch.
                warnings.simplefilter("ignore", DeprecationWarning)
                asset = source.add_table_asset(f"{schema}.{table}", table_name=table, schema_name=schema)
            batch = asset.add_batch_definition_whole_table("all").get_batch()
            found: dict[str, tuple[bool, Any]] = {}
            for form, part in (
                ("BASIC", [rule for rule in wanted if rule.expectation in COUNTED]),
                ("BOOLEAN_ONLY", [rule for rule in wanted if rule.expectation not in COUNTED]),
            ):
                if part:
                    found |= _evaluate(batch, suite, part, filled, form)
        except PermanentFailure:
            raise
        except Exception as error:  # noqa: BLE001 - metrics raise errors of any kind
            raise _failure(dsn, schema, table, _chain(error)) from None
        finally:
            if source is not None and asset is not None:
                source.delete_asset(f"{schema}.{table}")
    unknown = [name for name, (success, _) in found.items() if success is None]
    if unknown:
        raise _failure(dsn, schema, table, ", ".join(f"{name}: {found[name][1]}" for name in unknown))
    return found


def _evaluate(
    batch: Any, suite: str, rules: Sequence[Rule], filled: Mapping[str, dict[str, Any]], form: str
) -> dict[str, tuple[Any, Any]]:
    """Success and observed value by rule. If a rule cannot be evaluated, success is None and the value an error's name."""
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.registry import get_expectation_impl

    expectations = []
    for rule in rules:
        try:
            made = get_expectation_impl(str(rule.expectation))(**filled[rule.name], meta={"rule": rule.name})
        except Exception as error:
            raise PermanentFailure(
                Problem(Code.GATE_EXPECTATION, f"{suite}, {rule.name}: {str(error).splitlines()[0]}")
            ) from error
        expectations.append(made)
    validation = batch.validate(ExpectationSuite(name=suite, expectations=expectations), result_format=form)
    found: dict[str, tuple[Any, Any]] = {}
    for result in validation.results:
        name = result.expectation_config.meta["rule"]
        failure = _error_name(result.exception_info)
        found[name] = (None, failure) if failure else (bool(result.success), result.result.get("observed_value"))
    return found


def _error_name(info: Mapping[str, Any]) -> str | None:
    """Name of a result's exception. Its text is left out: it may quote a value."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            traceback: str = entry.get("exception_traceback") or ""
            names: list[str] = re.findall(r"^([\w.]+(?:Error|Exception|\w)):", traceback, re.MULTILINE)
            return next((name for name in names if name.startswith("psycopg.")), (names or ["error"])[-1])
    return None


def _chain(error: BaseException | None) -> str:
    """Names of an error and its causes. Their texts are left out: they may quote a value."""
    names: list[str] = []
    while error is not None:
        names.append(type(error).__name__)
        error = error.__cause__ or error.__context__
    return ", ".join(dict.fromkeys(names))


def _failure(dsn: str, schema: str, table: str, what: str) -> Exception:
    """Why a check failed to run: the database is away (transient), or the table or the rule is wrong (permanent)."""
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("select 1")
    except psycopg.OperationalError:
        return TransientFailure(f"the warehouse cannot be reached to check {schema}.{table}")
    # A server that was away may have come back since.
    if _is_transient(what):
        return TransientFailure(f"lost the connection to the warehouse while checking {schema}.{table} ({what})")
    return PermanentFailure(Problem(Code.GATE_CANNOT_EVALUATE, f"cannot check {schema}.{table} ({what})"))


def _is_transient(names: str) -> bool:
    """Whether a retry may help, by the names of errors: psycopg's have a SQLSTATE, others tell a lost connection."""
    known = (getattr(psycopg.errors, name, None) for name in re.findall(r"\w+", names))
    states = [state for kind in known if (state := getattr(kind, "sqlstate", None))]
    if states:
        return any(map(is_transient_state, states))
    return re.search("OperationalError|InterfaceError", names) is not None


def _number(value: Any) -> dict[str, float] | None:
    return {"value": float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else None


def store(
    connection: psycopg.Connection[Any],
    suite: str,
    results: Iterable[CheckResult],
    *,
    batch_id: int | None = None,
    build_no: int | None = None,
) -> None:
    """Write the results of a batch or a build to ops.gate_result, in the caller's transaction; they replace earlier ones."""
    connection.execute(
        "delete from ops.gate_result where suite = %s and (batch_id = %s or build_no = %s)", (suite, batch_id, build_no)
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.gate_result (
                suite, batch_id, build_no, rule, description, expectation, column_name, severity, success, kwargs, observed
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [
                (
                    suite, batch_id, build_no, item.rule, item.description, item.expectation, item.column,
                    item.severity, item.success, Jsonb(item.kwargs), Jsonb(item.observed) if item.observed else None,
                )
                for item in results
            ],
        )  # fmt: skip
