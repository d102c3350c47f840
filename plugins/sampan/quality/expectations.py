"""Great Expectations, kept small: suites out of rules, counts and verdicts in return, never a value of a row.

Severity is routed by the caller: an `Outcome` says what failed and how badly, and only the gate decides what follows.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from psycopg import Connection, OperationalError
from psycopg.types.json import Jsonb

from sampan.contracts.model import SEVERITIES, Rule
from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.settings import HOME

MARTS = HOME / "expectations" / "marts"
# In the folder of a site, which the next one may take the place of.
SITE_MARK = ".sampan-data-docs"
# Expectations whose observed value is a count, a sum or a share. All others answer yes or no.
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
# The threads of a process share one data source, whose tables go by their names.
ALONE = threading.Lock()
# Names of errors that a restart of the server, a lost connection or a lock in the way leaves behind.
PASSING = (
    r"OperationalError|InterfaceError|Shutdown|CannotConnectNow|QueryCanceled|LockNotAvailable|Deadlock|Serialization"
)


@dataclass(frozen=True)
class Outcome:
    """What one rule said. `observed` holds a count, sum or share (`{"value": 12}`), or nothing."""

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
        """Whether this alone holds a batch or stops a release."""
        return not self.success and self.severity == "critical"


@cache
def _data_source(dsn: str, process: int) -> Any:
    """One Great Expectations data source per database and process: a fork may not share its parent's connections."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations
    import psycopg
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = great_expectations.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context.data_sources.add_postgres(
        "warehouse",
        connection_string="postgresql+psycopg://creator@warehouse/creator",
        create_temp_table=False,
        # Autocommit: an open transaction would keep a lock on the intake table that publish attaches.
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
) -> list[Outcome]:
    """The outcome of every rule that has an expectation, in the order of `rules`, over the whole of one table.

    `tokens` (business_date, ...) replace `{name}` in the arguments of expectations. Raises TransientFailure when the
    database cannot be reached and PermanentFailure when a rule cannot be evaluated: neither is a verdict on the data.
    """
    wanted = [rule for rule in rules if rule.expectation is not None]
    if not wanted:
        return []
    filled = {rule.name: _fill(rule.kwargs, tokens or {}) for rule in wanted}
    source = asset = None
    with ALONE:
        try:
            source = _data_source(dsn, os.getpid())
            with warnings.catch_warnings():
                # The schema changes from batch to batch, so it cannot be part of the connection as the warning asks.
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
        except Exception as error:  # noqa: BLE001 - it raises whatever its metrics raise
            raise _failure(dsn, schema, table, _chain(error)) from None
        finally:
            if source is not None and asset is not None:
                source.delete_asset(f"{schema}.{table}")
    unknown = [name for name, (success, _) in found.items() if success is None]
    if unknown:
        raise _failure(dsn, schema, table, ", ".join(f"{name}: {found[name][1]}" for name in unknown))
    return [
        Outcome(
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


def _evaluate(
    batch: Any, suite: str, rules: Sequence[Rule], filled: Mapping[str, dict[str, Any]], form: str
) -> dict[str, tuple[Any, Any]]:
    """Rule to (success, observed value); success is None and the value an error's name where it could not be told."""
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
    verdict = batch.validate(ExpectationSuite(name=suite, expectations=expectations), result_format=form)
    found: dict[str, tuple[Any, Any]] = {}
    for result in verdict.results:
        name = result.expectation_config.meta["rule"]
        error = _error_name(result.exception_info)
        found[name] = (None, error) if error else (bool(result.success), result.result.get("observed_value"))
    return found


def _error_name(info: Mapping[str, Any]) -> str | None:
    """Name of the exception behind a result, without its text, which may quote a value."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            names = re.findall(
                r"^([\w.]+(?:Error|Exception|\w)):", entry.get("exception_traceback") or "", re.MULTILINE
            )
            return next((name for name in names if name.startswith("psycopg.")), (names or ["error"])[-1])
    return None


def _chain(error: BaseException | None) -> str:
    """Names of an error and of those behind it, without their texts, which may quote a value."""
    names: list[str] = []
    while error is not None:
        names.append(type(error).__name__)
        error = error.__cause__ or error.__context__
    return ", ".join(dict.fromkeys(names))


def _failure(dsn: str, schema: str, table: str, what: str) -> Exception:
    """Why a gate could not decide: the database is away (transient), or table or rule are amiss (permanent)."""
    import psycopg

    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("select 1")
    except OperationalError:
        return TransientFailure(f"the warehouse cannot be reached to check {schema}.{table}")
    # A server that was away may be back by the time it is asked.
    if re.search(PASSING, what):
        return TransientFailure(f"the warehouse went away while {schema}.{table} was checked ({what})")
    return PermanentFailure(Problem(Code.GATE_CANNOT_EVALUATE, f"{schema}.{table} could not be checked ({what})"))


def _number(value: Any) -> dict[str, float] | None:
    return {"value": float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else None


def store(
    connection: Connection[Any],
    suite: str,
    outcomes: Iterable[Outcome],
    *,
    batch_id: int | None = None,
    build_no: int | None = None,
) -> None:
    """Write outcomes of a batch or a build to ops.gate_result, in the caller's transaction, instead of earlier ones."""
    connection.execute(
        "delete from ops.gate_result where suite = %s and (batch_id = %s or build_no = %s)", (suite, batch_id, build_no)
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.gate_result (suite, batch_id, build_no, rule, description, expectation, column_name,"
            " severity, success, kwargs, observed) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    suite, batch_id, build_no, item.rule, item.description, item.expectation, item.column,
                    item.severity, item.success, Jsonb(item.kwargs), Jsonb(item.observed) if item.observed else None,
                )
                for item in outcomes
            ],
        )  # fmt: skip


@cache
def mart_rules(folder: Path = MARTS) -> dict[str, tuple[Rule, ...]]:
    """Rules per mart from expectations/marts/<mart>.yaml, written as the `quality` of a contract is."""
    rules = {}
    for path in sorted(folder.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if document.get("mart") != path.stem:
            raise PermanentFailure(Problem(Code.EXPECTATIONS_MART, f"mart is not {path.stem!r}", str(path), 1))
        rules[path.stem] = tuple(_mart_rule(item, path) for item in document["quality"])
    return rules


def _mart_rule(item: Mapping[str, Any], path: Path) -> Rule:
    try:
        rule = Rule(
            name=item["name"],
            description=item["description"],
            severity=item["severity"],
            expectation=item["implementation"]["type"],
            kwargs=dict(item["implementation"]["kwargs"]),
        )
    except KeyError as error:
        message = f"{item.get('name')}: {error} is missing"
        raise PermanentFailure(Problem(Code.EXPECTATIONS_RULE, message, str(path))) from error
    if rule.severity not in SEVERITIES:
        message = f"{rule.name}: severity is one of {', '.join(SEVERITIES)}"
        raise PermanentFailure(Problem(Code.EXPECTATIONS_RULE, message, str(path)))
    return rule


def data_docs(path: Path, keep: int = 20) -> Path:
    """Write Great Expectations' own static site of the newest `keep` checks of every suite to `path`; return its index.

    It is made beside `path` and takes its place when complete. Raises PermanentFailure when something else is at `path`.
    """
    path = path.resolve()
    try:
        if path.exists() and not (path / SITE_MARK).exists() and (not path.is_dir() or any(path.iterdir())):
            message = "is there already and no pages that were written before: name a new or an empty folder"
            raise PermanentFailure(Problem(Code.DATA_DOCS_FOLDER, message, str(path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            fresh = Path(scratch) / "new"
            fresh.mkdir()
            _write_site(fresh, keep)
            (fresh / SITE_MARK).touch()
            if path.exists():
                path.rename(Path(scratch) / "old")
            fresh.rename(path)
    except OSError as error:
        raise PermanentFailure(Problem(Code.DATA_DOCS_FOLDER, error.strerror or str(error), str(path))) from error
    return path / "index.html"


def _write_site(folder: Path, keep: int) -> None:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    context = great_expectations.get_context(mode="ephemeral")
    context.enable_analytics(False)
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    for name in context.get_site_names():
        context.delete_data_docs_site(name)
    context.add_data_docs_site("gates", site)
    with connect("builder") as connection:
        rows = connection.execute(
            """
            with checks as (
                select *, dense_rank() over (partition by suite order by coalesce(batch_id, build_no) desc) as age
                from ops.gate_result
            )
            select suite, coalesce('batch ' || batch_id, 'build ' || build_no) as subject, min(checked_at),
                json_agg(json_build_object('rule', rule, 'description', description, 'expectation', expectation,
                    'severity', severity, 'success', success, 'kwargs', kwargs, 'observed', observed) order by rule)
            from checks where age <= %s group by suite, batch_id, build_no
            """,
            (keep,),
        ).fetchall()
    for suite, subject, checked_at, results in rows:
        key, result = _stored_result(suite, subject, checked_at, results)
        context.validation_results_store.set(key, result)
    context.build_data_docs()


def _stored_result(suite: str, subject: str, checked_at: Any, results: list[dict[str, Any]]) -> tuple[Any, Any]:
    """A stored check as Great Expectations' own result, under its own key."""
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    key = ValidationResultIdentifier(
        expectation_suite_identifier=ExpectationSuiteIdentifier(suite),
        run_id=RunIdentifier(run_name=subject, run_time=checked_at),
        batch_identifier=subject.replace(" ", "-"),
    )
    verdicts = [
        ExpectationValidationResult(
            success=item["success"],
            expectation_config=ExpectationConfiguration(
                type=item["expectation"],
                kwargs=item["kwargs"],
                description=f"{item['rule']} ({item['severity']}): {item['description']} {_asked(item)}",
            ),
            result={"observed_value": item["observed"]["value"]} if item["observed"] else {},
        )
        for item in results
    ]
    passed = sum(bool(item["success"]) for item in results)
    result = ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=verdicts,
        suite_name=suite,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results),
        },
        meta={"run_id": key.run_id, "active_batch_definition": {"batch_identifiers": {}, "data_asset_name": subject}},
        batch_id=subject,
    )
    return key, result


def _asked(item: dict[str, Any]) -> str:
    """The expectation behind a rule, with its arguments, in one line."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in item["kwargs"].items())
    return f"[{item['expectation']}: {arguments}]"
