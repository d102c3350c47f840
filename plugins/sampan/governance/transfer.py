"""Share a mart under an agreement (a GBA Standard Contract), and keep the register of transfers.

Two kinds of mart can be shared: published tables, in which no cell reveals an enterprise, and credit features, with the bank
that live consents name. A transfer needs an agreement that covers it, and is registered before any data leaves.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from botocore.exceptions import ClientError, ParamValidationError
from psycopg import sql
from psycopg.rows import class_row

from sampan import failpoints
from sampan.calendar import business_days, today
from sampan.database import Connection, connect, scalar
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts import release
from sampan.object_store import parse_s3_uri, s3_errors
from sampan.settings import settings
from sampan.text import FORMULA, NUMBER, did_you_mean

PUBLISHED, CONSENTED = "mart_published_", "mart_credit_features"
FILING_DAYS = 10


@dataclass(frozen=True)
class TransferAgreement:
    """A GBA Standard Contract as it was registered."""

    contract_no: str
    recipient: str
    recipient_city: str
    bank_id: str | None
    purpose: str
    marts: list[str]
    valid_from: date
    valid_to: date
    assessment_no: str | None
    assessed_on: date | None
    filed_on: date | None


def register_agreement(agreement: TransferAgreement, person: str) -> None:
    """Register an agreement. Raises PermanentFailure when its number exists, its filing date is in the future, or its dates
    do not fit together.
    """
    if agreement.filed_on:
        _refuse_future(agreement.filed_on)
    values = vars(agreement) | {"entered_by": person}
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    marks = sql.SQL(", ").join(map(sql.Placeholder, values))
    with connect() as connection:
        try:
            connection.execute(
                sql.SQL("insert into ops.transfer_contract ({}) values ({})").format(names, marks), values
            )
        except psycopg.errors.UniqueViolation:
            message = f"agreement {agreement.contract_no} already exists; register changes as a new agreement"
            raise PermanentFailure(Problem(Code.TRANSFER_CONTRACT_TAKEN, message)) from None
        except psycopg.errors.CheckViolation as error:
            message = f"agreement {agreement.contract_no} violates the constraint {error.diag.constraint_name}"
            raise PermanentFailure(Problem(Code.TRANSFER_CONTRACT, message)) from None


def record_filing(contract_no: str, on: date) -> bool:
    """Record the filing date of an agreement, once. Returns False when this date was already recorded.

    Raises PermanentFailure when the agreement is unknown, the date is in the future, or another date was recorded. A future
    date that an earlier version accepted is replaced.
    """
    _refuse_future(on)
    with connect() as connection:
        new = connection.execute(
            """
            update ops.transfer_contract set filed_on = %s
            where contract_no = %s and (filed_on is null or filed_on > %s)
            """,
            [on, contract_no, today()],
        ).rowcount
        agreement = _agreement(connection, contract_no)
    if agreement is None:
        raise PermanentFailure(Problem(Code.TRANSFER_NO_CONTRACT, f"agreement {contract_no} is not registered"))
    if agreement.filed_on != on:
        message = f"agreement {contract_no} was filed on {agreement.filed_on}; this date cannot be changed"
        raise PermanentFailure(Problem(Code.TRANSFER_FILED, message))
    return new == 1


def _refuse_future(filed_on: date) -> None:
    if filed_on > today():
        message = f"filing date {filed_on} is in the future; record it on or after that day"
        raise PermanentFailure(Problem(Code.TRANSFER_FILED, message))


def share(mart: str, recipient: str, contract_no: str, target: str, person: str) -> dict[str, Any]:
    """Write a mart of the live release as CSV to a new file or `s3://bucket/key`, and register the transfer.

    Returns transfer_id, rows and content_sha256. Raises PermanentFailure, with every objection, when no valid agreement
    covers the transfer, the mart cannot be shared, or `target` cannot be written.
    """
    with connect() as connection, tempfile.TemporaryDirectory() as folder:
        agreement = _agreement(connection, contract_no)
        cities = {city for (city,) in connection.execute("select city from ops.gba_city")}
        found = objections(agreement, mart, recipient, cities, today())
        if found or agreement is None:
            raise PermanentFailure(Problem(Code.TRANSFER_REFUSED, f"{mart} to {recipient}: {'; '.join(found)}"))
        _check_target(target)
        file = Path(folder) / "data.csv"
        release_no, rows, consents = _export(agreement, mart, file)
        sha, size = hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size
        values = {
            "contract_no": contract_no, "mart": mart, "release_no": release_no, "recipient": recipient,
            "recipient_city": agreement.recipient_city, "purpose": agreement.purpose, "consent_ids": consents, "rows": rows,
            "bytes": size, "content_sha256": sha, "target": target, "shared_by": person,
        }  # fmt: skip
        insert = sql.SQL("insert into ops.transfer ({}) values ({}) returning transfer_id").format(
            sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values))
        )
        transfer_id = scalar(connection, insert, values)
        failpoints.hit("transfer.before_leaving")
        _place(file, target, sha)
        connection.execute("update ops.transfer set done_at = clock_timestamp() where transfer_id = %s", [transfer_id])
        return {"transfer_id": transfer_id, "rows": rows, "content_sha256": sha}


def objections(
    agreement: TransferAgreement | None, mart: str, recipient: str, cities: set[str], day: date
) -> list[str]:
    """Every reason against a transfer on a day; an empty list when it is allowed."""
    if not (mart.startswith(PUBLISHED) or mart == CONSENTED):
        return ["only published tables and credit features can be shared, under any agreement"]
    if agreement is None:
        return ["the agreement is not registered"]
    due = next(islice(business_days(agreement.valid_from + timedelta(days=1)), FILING_DAYS - 1, None))
    is_filed = agreement.filed_on is not None and agreement.filed_on <= day
    found = {
        f"the agreement is with {agreement.recipient}": agreement.recipient != recipient,
        f"the agreement covers only {', '.join(agreement.marts)}": mart not in agreement.marts,
        f"{agreement.recipient_city} is neither Hong Kong nor a Mainland city of the Greater Bay Area": (
            agreement.recipient_city not in cities
        ),
        f"the agreement takes effect on {agreement.valid_from}": day < agreement.valid_from,
        f"the agreement ended on {agreement.valid_to}": day > agreement.valid_to,
        "no impact assessment was made": agreement.assessed_on is None or agreement.assessed_on > day,
        f"the agreement had to be filed by {due}": not is_filed and day > due,
        "the agreement names no bank, so no consents allow credit features to be shared": (
            mart == CONSENTED and agreement.bank_id is None
        ),
    }
    return [text for text, applies in found.items() if applies]


def _agreement(connection: Connection, contract_no: str) -> TransferAgreement | None:
    names = ", ".join(TransferAgreement.__dataclass_fields__)
    with connection.cursor(row_factory=class_row(TransferAgreement)) as cursor:
        return cursor.execute(
            f"select {names} from ops.transfer_contract where contract_no = %s", [contract_no]
        ).fetchone()


def _export(agreement: TransferAgreement, mart: str, file: Path) -> tuple[int, int, list[str] | None]:
    """Write the rows that may be shared. Returns the release, the number of rows, and the consents they are based on."""
    with connect("builder") as connection:
        release_no = release.live_release(connection)
        table = sql.Identifier(release.schemas_of(release_no or 0)[mart == CONSENTED], mart)
        if release_no is None or scalar(connection, "select to_regclass(%s)", [table.as_string()]) is None:
            known = did_you_mean(mart, release.marts_of(connection, release_no))
            raise PermanentFailure(Problem(Code.TRANSFER_NO_MART, f"the live release has no mart {mart}{known}"))
        allowed: sql.Composable = sql.SQL("true")
        if mart == CONSENTED:
            # The condition of the bank's own row-level policy, at this moment.
            allowed = sql.SQL(
                "bank_id = {} and ops.consent_is_live(consent_id, bank_id, consent_scope, consent_brn, provider)"
            ).format(sql.Literal(agreement.bank_id))
        try:
            columns = connection.execute(sql.SQL("select * from {} limit 0").format(table)).description or ()
            query = sql.SQL(
                "copy (select {} from {} where {} order by 1, 2, 3, 4) to stdout (format csv, header)"
            ).format(sql.SQL(", ").join(_spreadsheet_column(column) for column in columns), table, allowed)
            with file.open("wb") as out, connection.cursor() as cursor:
                with cursor.copy(query) as copy:
                    for block in copy:
                        out.write(block)
                rows = cursor.rowcount
        except psycopg.errors.UndefinedColumn:
            message = f"{mart} of release {release_no} does not record the consents of its rows; make a new release"
            raise PermanentFailure(Problem(Code.TRANSFER_OLD_RELEASE, message)) from None
    if mart != CONSENTED:
        return release_no, rows, None
    import polars as pl

    consents = pl.read_csv(file, columns=["consent_id"], infer_schema=False)["consent_id"].unique().sort().to_list()
    return release_no, rows, consents


def _spreadsheet_column(column: psycopg.Column) -> sql.Composable:
    """A column of the file: the recipient may open it in a spreadsheet, which computes a text that looks like a formula."""
    name = sql.Identifier(column.name)
    if column.type_display.partition("(")[0] not in ("text", "varchar", "bpchar"):
        return name
    return sql.SQL("case when {0} ~ {1} and {0} !~ {2} then {3} || {0} else {0} end as {0}").format(
        name, sql.Literal(FORMULA), sql.Literal(NUMBER), sql.Literal("'")
    )


def _check_target(target: str) -> None:
    """Raise PermanentFailure if the target cannot be written, before the transfer is registered."""
    path, reason = Path(target), None
    if target.startswith("s3://"):
        bucket, key = parse_s3_uri(target)
        if not key:
            reason = "expected s3://bucket/key"
        with s3_errors():
            try:
                settings().s3().head_bucket(Bucket=bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("403", "404", "NoSuchBucket"):
                    raise
                reason = f"bucket {bucket} does not exist or access is denied"
            except ParamValidationError:
                reason = f"{bucket!r} is not a valid bucket name"
    elif path.exists():
        reason = "the file already exists"
    elif not path.parent.is_dir():
        reason = f"folder {path.parent} does not exist"
    elif not os.access(path.parent, os.W_OK):
        reason = f"folder {path.parent} is not writable"
    if reason:
        raise PermanentFailure(Problem(Code.TRANSFER_TARGET, reason, target))


def _place(file: Path, target: str, sha: str) -> None:
    if target.startswith("s3://"):
        bucket, key = parse_s3_uri(target)
        with s3_errors(), file.open("rb") as body:
            settings().s3().upload_fileobj(body, bucket, key, ExtraArgs={"Metadata": {"sha256": sha}})
        return
    # The file gets its name only when it is complete, and no one else reads it on the way.
    part = Path(f"{target}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(0o600, exist_ok=False)
        with part.open("wb") as out, file.open("rb") as body:
            shutil.copyfileobj(body, out)
        part.rename(target)
    except OSError as error:
        raise PermanentFailure(Problem(Code.TRANSFER_TARGET, error.strerror or str(error), target)) from error


def register(limit: int = 50) -> list[tuple[Any, ...]]:
    """The newest transfers: number, mart, release, recipient, city, agreement, rows, SHA-256, time."""
    with connect() as connection:
        return connection.execute(
            """
            select
                transfer_id,
                mart,
                release_no,
                recipient,
                recipient_city,
                contract_no,
                rows,
                content_sha256,
                coalesce(done_at, begun_at)
            from ops.transfer
            order by transfer_id desc
            limit %s
            """,
            [limit],
        ).fetchall()
