"""Who may do what in the object store, as IAM policies: each partner in its own drop prefix, the loader in drop, landing and
the lake, the reporter in the pages of releases, the analyst in the lake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sampan.contracts.registry import all_contracts

LOADER, REPORTER, ANALYST = "loader", "reporter", "analyst"
PUT = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
READ = ("s3:GetObject", "s3:GetObjectVersion")
DELETE = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload")
# SeaweedFS takes what is put below the folders that it keeps for itself, and lists none of it.
UNLISTED = ("*/.uploads/*", "/*.versions/*")
LIST = ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads")


def policies(drop: str, landing: str, reports: str = "reports", lake: str = "lake") -> dict[str, dict[str, Any]]:
    """IAM policy documents by name: `loader`, `reporter`, `analyst`, and each partner that delivers files.

    A partner may put objects under its own prefix where they are listed, and neither read, list nor delete. The loader
    reads and deletes in `drop` and puts there only what APIs answer; `landing` and `lake` are its own, and in `reports`
    it deletes what is past its retention. The reporter puts pages into `reports` and reads them. The analyst reads in `lake`
    the feeds whose rows need no rule of their own.
    """
    contracts = all_contracts().values()
    asked = [f"{drop}/{contract.drop_prefix}*" for contract in contracts if contract.source.kind == "api"]
    opened = [f"{lake}/{contract.feed}/*" for contract in contracts if contract.is_open_in_lake]
    partners = sorted({contract.partner for contract in contracts if contract.source.kind == "s3"})
    loader = _policy(
        (LIST, [drop, landing, reports, lake]),
        ((*READ, *DELETE), [f"{drop}/*", f"{landing}/*", f"{lake}/*"]),
        (DELETE, [f"{reports}/*"]),
        (PUT, [*asked, f"{landing}/*", f"{lake}/*"]),
    )
    reporter = _policy((["s3:ListBucket"], [reports]), (["s3:PutObject", "s3:GetObject"], [f"{reports}/*"]))
    analyst = _policy((["s3:ListBucket"], [lake]), (["s3:GetObject"], opened))
    return {LOADER: loader, REPORTER: reporter, ANALYST: analyst} | {
        partner: _policy((PUT, [f"{drop}/{partner}/*"]), denied=[f"{drop}/{partner}{place}" for place in UNLISTED])
        for partner in partners
    }


def _policy(*statements: tuple[Sequence[str], list[str]], denied: Sequence[str] = ()) -> dict[str, Any]:
    allowed = [_statement("Allow", *statement) for statement in statements]
    refused = [_statement("Deny", ["s3:PutObject"], denied)] if denied else []
    return {"Version": "2012-10-17", "Statement": [*allowed, *refused]}


def _statement(effect: str, actions: Sequence[str], places: Sequence[str]) -> dict[str, Any]:
    return {"Effect": effect, "Action": list(actions), "Resource": [f"arn:aws:s3:::{place}" for place in places]}
