"""transfer: share a mart under a contract of the GBA Standard Contract, and keep the register of what left.

Two kinds of mart may leave: published tables, in which no cell tells of one enterprise, and credit features for the bank that
live consents name. A share needs a contract that covers it; the register has its row before a byte leaves.
"""

from __future__ import annotations

import hashlib
import os
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
from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts import release
from sampan.object_store import parse_s3_uri, s3_errors
from sampan.settings import settings

PUBLISHED, CONSENTED = "mart_published_", "mart_credit_features"
FILING_DAYS = 10


@dataclass(frozen=True)
class Contract:
    """A standard contract as it was entered."""

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


def enter(contract: Contract, person: str) -> None:
    """Enter a contract. Raises PermanentFailure when its number is taken (what changes is a new contract), or it is said to
    be filed on a day to come.
    """
    if contract.filed_on:
        _not_to_come(contract.filed_on)
    values = vars(contract) | {"entered_by": person}
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    marks = sql.SQL(", ").join(map(sql.Placeholder, values))
    with connect() as connection:
        try:
            connection.execute(
                sql.SQL("insert into ops.transfer_contract ({}) values ({})").format(names, marks), values
            )
        except psycopg.errors.UniqueViolation:
            message = f"contract {contract.contract_no} is there; what changes is a new contract"
            raise PermanentFailure(Problem(Code.TRANSFER_CONTRACT_TAKEN, message)) from None
        except psycopg.errors.CheckViolation as error:
            raise PermanentFailure(
                Problem(Code.TRANSFER_CONTRACT, f"refused by {error.diag.constraint_name}")
            ) from None


def filed(contract_no: str, on: date) -> bool:
    """Say when a contract was filed, once. Returns False when that day was said before.

    Raises PermanentFailure when the contract is unknown, the day is to come, or another day was said before. A day to come
    that was entered before such days were refused is no filing, and is replaced.
    """
    _not_to_come(on)
    with connect() as connection:
        new = connection.execute(
            "update ops.transfer_contract set filed_on = %s where contract_no = %s"
            " and (filed_on is null or filed_on > %s)",
            [on, contract_no, today()],
        ).rowcount
        contract = _contract(connection, contract_no)
    if contract is None:
        raise PermanentFailure(Problem(Code.TRANSFER_NO_CONTRACT, f"contract {contract_no} is not in the register"))
    if contract.filed_on != on:
        message = f"contract {contract_no} was filed on {contract.filed_on}, which is not changed"
        raise PermanentFailure(Problem(Code.TRANSFER_FILED, message))
    return new == 1


def _not_to_come(filed_on: date) -> None:
    if filed_on > today():
        raise PermanentFailure(
            Problem(Code.TRANSFER_FILED, f"{filed_on} is to come: say that it was filed when it was")
        )


def share(mart: str, recipient: str, contract_no: str, target: str, person: str) -> dict[str, Any]:
    """Write a mart of the live release as CSV to a new file or `s3://bucket/key`, and into the register.

    Returns transfer_id, rows and content_sha256. Raises PermanentFailure, which says everything that is missing, when no
    valid contract covers the share, the mart is not one that may leave, or nothing can be written to `target`.
    """
    with connect() as connection, tempfile.TemporaryDirectory() as folder:
        contract = _contract(connection, contract_no)
        cities = {row[0] for row in connection.execute("select city from ops.gba_city")}
        missing = objections(contract, mart, recipient, cities, today())
        if missing:
            raise PermanentFailure(Problem(Code.TRANSFER_REFUSED, f"{mart} to {recipient}: {'; '.join(missing)}"))
        _check_target(target)
        file = Path(folder) / "data.csv"
        release_no, rows, consents = _export(contract, mart, file)
        sha, size = hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size
        values = {
            "contract_no": contract_no, "mart": mart, "release_no": release_no, "recipient": recipient,
            "recipient_city": contract.recipient_city, "purpose": contract.purpose, "consent_ids": consents, "rows": rows,
            "bytes": size, "content_sha256": sha, "target": target, "shared_by": person,
        }  # fmt: skip
        insert = sql.SQL("insert into ops.transfer ({}) values ({}) returning transfer_id").format(
            sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values))
        )
        transfer_id = connection.execute(insert, values).fetchone()[0]  # type: ignore[index]
        failpoints.hit("transfer.before_leaving")
        _place(file, target, sha)
        connection.execute("update ops.transfer set done_at = clock_timestamp() where transfer_id = %s", [transfer_id])
        return {"transfer_id": transfer_id, "rows": rows, "content_sha256": sha}


def objections(contract: Contract | None, mart: str, recipient: str, cities: set[str], day: date) -> list[str]:
    """Everything that speaks against a share on a day; nothing when it may go ahead."""
    if not (mart.startswith(PUBLISHED) or mart == CONSENTED):
        return ["neither a published table nor under consents, so it does not leave under any contract"]
    if contract is None:
        return ["no such contract is in the register"]
    due = next(islice(business_days(contract.valid_from + timedelta(days=1)), FILING_DAYS - 1, None))
    is_filed = contract.filed_on is not None and contract.filed_on <= day
    found = {
        f"the contract is with {contract.recipient}": contract.recipient != recipient,
        f"the contract covers {', '.join(contract.marts)}": mart not in contract.marts,
        f"{contract.recipient_city} is neither Hong Kong nor a Mainland city of the Greater Bay Area": (
            contract.recipient_city not in cities
        ),
        f"the contract takes effect on {contract.valid_from}": day < contract.valid_from,
        f"the contract ended on {contract.valid_to}": day > contract.valid_to,
        "no impact assessment was made": contract.assessed_on is None or contract.assessed_on > day,
        f"the contract was to be filed by {due}": not is_filed and day > due,
        "the contract names no bank whose consents would let credit features through": (
            mart == CONSENTED and contract.bank_id is None
        ),
    }
    return [text for text, applies in found.items() if applies]


def _contract(connection: psycopg.Connection[Any], contract_no: str) -> Contract | None:
    names = ", ".join(Contract.__dataclass_fields__)
    with connection.cursor(row_factory=class_row(Contract)) as cursor:
        return cursor.execute(
            f"select {names} from ops.transfer_contract where contract_no = %s", [contract_no]
        ).fetchone()


def _export(contract: Contract, mart: str, file: Path) -> tuple[int, int, list[str] | None]:
    """Write the rows that may leave; the release, how many rows, and the consents that they rest on."""
    with connect("builder") as connection:
        release_no = release.live_release(connection)
        table = sql.Identifier(f"release_{release_no}", mart)
        if release_no is None or not connection.execute("select to_regclass(%s)", [table.as_string()]).fetchone()[0]:  # type: ignore[index]
            raise PermanentFailure(Problem(Code.TRANSFER_NO_MART, f"the live release has no {mart}"))
        allowed = sql.SQL("true")
        if mart == CONSENTED:
            # What the bank's own policy says, at this moment.
            allowed = sql.SQL(
                "bank_id = {} and ops.consent_is_live(consent_id, bank_id, scope, consent_brn, provider)"
            ).format(sql.Literal(contract.bank_id))
        query = sql.SQL("copy (select * from {} where {} order by 1, 2, 3, 4) to stdout (format csv, header)")
        try:
            with file.open("wb") as out, connection.cursor() as cursor:
                with cursor.copy(query.format(table, allowed)) as copy:
                    for block in copy:
                        out.write(block)
                rows = cursor.rowcount
        except psycopg.errors.UndefinedColumn:
            message = f"{mart} of release {release_no} does not say whose consents its rows rest on: make a new release"
            raise PermanentFailure(Problem(Code.TRANSFER_OLD_RELEASE, message)) from None
    if mart != CONSENTED:
        return release_no, rows, None
    import polars as pl

    consents = pl.read_csv(file, columns=["consent_id"], infer_schema=False)["consent_id"].unique().sort().to_list()
    return release_no, rows, consents


def _check_target(target: str) -> None:
    """Raise PermanentFailure when nothing can be written there: before the register says that something may have left."""
    path, missing = Path(target), None
    if target.startswith("s3://"):
        bucket, key = parse_s3_uri(target)
        if not key:
            missing = "an object is s3://bucket/key"
        with s3_errors():
            try:
                settings().s3().head_bucket(Bucket=bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("403", "404", "NoSuchBucket"):
                    raise
                missing = f"there is no bucket {bucket}, or no right to it"
            except ParamValidationError:
                missing = f"{bucket!r} is no name of a bucket"
    elif path.exists():
        missing = "is there already"
    elif not path.parent.is_dir():
        missing = f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK):
        missing = f"nothing may be written to {path.parent}"
    if missing:
        raise PermanentFailure(Problem(Code.TRANSFER_TARGET, missing, target))


def _place(file: Path, target: str, sha: str) -> None:
    if target.startswith("s3://"):
        bucket, key = parse_s3_uri(target)
        with s3_errors(), file.open("rb") as body:
            settings().s3().upload_fileobj(body, bucket, key, ExtraArgs={"Metadata": {"sha256": sha}})
        return
    # A name that appears when all of it is there.
    part = Path(f"{target}.part")
    try:
        part.write_bytes(file.read_bytes())
        part.rename(target)
    except OSError as error:
        raise PermanentFailure(Problem(Code.TRANSFER_TARGET, error.strerror or str(error), target)) from error


def register(limit: int = 50) -> list[tuple[Any, ...]]:
    """The newest transfers: number, mart, release, recipient, city, contract, rows, SHA-256, when."""
    with connect() as connection:
        return connection.execute(
            "select transfer_id, mart, release_no, recipient, recipient_city, contract_no, rows, content_sha256,"
            " coalesce(done_at, begun_at) from ops.transfer order by transfer_id desc limit %s",
            [limit],
        ).fetchall()
