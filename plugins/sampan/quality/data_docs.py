"""Data docs: the results of all gates as Great Expectations' own static site."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem

# Marks a folder as a site of data docs, which the next one may replace.
SITE_MARK = ".sampan-data-docs"


def write(path: Path, keep: int = 20) -> Path:
    """Write the site of the newest `keep` checks of every suite to the folder `path`. Returns its index page.

    The site is made beside `path` and moved there when it is complete. Raises PermanentFailure when `path` holds other files.
    """
    path = path.resolve()
    try:
        if path.exists() and not (path / SITE_MARK).exists() and (not path.is_dir() or any(path.iterdir())):
            message = "folder exists and was not created by data-docs; choose a new or empty folder"
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
    site: Any = {
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
            select
                suite,
                coalesce('batch ' || batch_id, 'build ' || build_no) as subject,
                min(checked_at) as checked_at,
                json_agg(
                    json_build_object(
                        'rule', rule, 'description', description, 'expectation', expectation, 'severity', severity,
                        'success', success, 'kwargs', kwargs, 'observed', observed
                    ) order by rule
                ) as results
            from checks
            where age <= %s
            group by suite, batch_id, build_no
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
    checks = [
        ExpectationValidationResult(
            success=item["success"],
            expectation_config=ExpectationConfiguration(
                type=item["expectation"],
                kwargs=item["kwargs"],
                description=f"{item['rule']} ({item['severity']}): {item['description']} {_call(item)}",
            ),
            result={"observed_value": item["observed"]["value"]} if item["observed"] else {},
        )
        for item in results
    ]
    passed = sum(bool(item["success"]) for item in results)
    result = ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=checks,
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


def _call(item: dict[str, Any]) -> str:
    """The expectation of a rule with its arguments, in one line."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in item["kwargs"].items())
    return f"[{item['expectation']}: {arguments}]"
