"""fetch: find out what a partner has ready. A drop prefix is listed; an open-data API is asked, page by page, and what it
answers is put into its drop prefix as one file, so that every delivery goes the same way from there on."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import date, timedelta
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sampan.calendar import today
from sampan.contract import Contract, load
from sampan.errors import PermanentFailure, Problem, TransientFailure
from sampan.land import listed, s3_errors
from sampan.settings import settings
from sampan.warehouse import connect

log = logging.getLogger(__name__)
MAX_PAGES = 10_000


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Note every delivery that is new to the ledger. Returns how many were seen for the first time.

    An API is asked as of `business_date`, today where none is given.
    """
    contract = load(feed)
    if contract.source.kind == "api":
        _ask(contract, business_date or today())
    seen = 0
    with connect() as connection:
        for item in listed(contract.drop_prefix):
            if item["Key"].endswith("/"):
                continue
            uri = f"s3://{settings().drop_bucket}/{item['Key']}"
            seen += connection.execute(
                "insert into ops.delivery (source_uri, etag, feed, business_date, received_at, bytes)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (source_uri, etag) do update"
                " set problem = null, received_at = excluded.received_at, seen_at = clock_timestamp()"
                # What was refused for a passing reason is looked at again once the reason has passed.
                " where delivery.problem ->> 'rule' = 'delivery.gone'"
                " or delivery.problem ->> 'rule' = 'delivery.future_date' and delivery.business_date <= %s",
                [uri, item["ETag"], feed, _date_of(contract, item["Key"]), item["LastModified"], item["Size"], today()],
            ).rowcount
    return {"seen": seen}


def _date_of(contract: Contract, key: str) -> date | None:
    """The business date that the key names, or None where it names none."""
    folder = key.removeprefix(contract.drop_prefix).split("/")[0]
    try:
        return date.fromisoformat(folder) if len(folder) == 10 else None
    except ValueError:
        return None


# --- APIs -------------------------------------------------------------------------------------------------------------


def _ask(contract: Contract, day: date) -> None:
    """Ask for all pages and put their records into the drop prefix, named by their content."""
    records = _all_pages(contract, day)
    body = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    name = f"{contract.feed}_{hashlib.sha256(body).hexdigest()[:16]}.jsonl"
    with s3_errors():
        settings().s3().put_object(Bucket=settings().drop_bucket, Key=f"{contract.drop_prefix}{day}/{name}", Body=body)


def _all_pages(contract: Contract, day: date) -> list[dict[str, Any]]:
    """Every record that the API has. Pages that repeat, or a total that changes between them, are not believed."""
    again = Retrying(
        retry=retry_if_exception_type(TransientFailure),
        stop=stop_after_attempt(4),
        wait=wait_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    return again(_one_reading, contract, day)


def _one_reading(contract: Contract, day: date) -> list[dict[str, Any]]:
    api, url = contract.source.api, _url(contract)
    paging = api["pagination"]
    fixed = {key: _filled(str(value), day) for key, value in (api.get("parameters") or {}).items()}
    records: list[dict[str, Any]] = []
    digests: set[str] = set()
    totals: set[Any] = set()
    with httpx.Client(timeout=30, follow_redirects=True, headers={"User-Agent": "sampan"}) as client:
        for _ in range(MAX_PAGES):
            page = fixed | {paging["limit"]: str(paging["size"]), paging["offset"]: str(len(records))}
            answer = _get(client, url, page)
            _must_succeed(contract, answer, url)
            batch = _at(answer, api["records"])
            if not isinstance(batch, list) or not all(isinstance(record, dict) for record in batch):
                raise PermanentFailure(Problem("api.shape", f"no list of records at {api['records']}", url))
            if not batch:
                break
            digest = hashlib.sha256(json.dumps(batch, sort_keys=True).encode()).hexdigest()
            if digest in digests:
                raise TransientFailure(f"{url}: the page at offset {len(records)} repeats an earlier one")
            digests.add(digest)
            records += batch
            # Some APIs count the page, some the whole; a count other than the page's is of the whole and must stay.
            total = _at(answer, api["total"]) if api.get("total") else None
            if total is not None and type(total) is not int:
                raise PermanentFailure(Problem("api.shape", f"no number at {api['total']}", url))
            if total is not None and total != len(batch):
                totals.add(total)
            if len(totals) > 1:
                raise TransientFailure(f"{url}: the total changed between pages: {sorted(totals)}")
            if totals and len(records) >= next(iter(totals)):
                break
            if not totals and len(batch) < int(paging["size"]):
                break
        else:
            raise PermanentFailure(Problem("api.endless", f"more than {MAX_PAGES:,} pages", url))
    if totals and len(records) != next(iter(totals)):
        raise TransientFailure(f"{url}: {len(records)} records came, {next(iter(totals))} were promised")
    return records


def _url(contract: Contract) -> str:
    """The contract's address; the environment may put another base in the place of the official one."""
    source = contract.source
    variable, base = source.api.get("baseUrlVariable"), source.api.get("baseUrl")
    if not variable or not base:
        return source.location
    return settings().get(variable, base).rstrip("/") + source.location.removeprefix(base)


def _get(client: httpx.Client, url: str, parameters: dict[str, str]) -> Any:
    try:
        response = client.get(url, params=parameters)
    except httpx.HTTPError as error:
        raise TransientFailure(f"{url}: {type(error).__name__}: {error}") from error
    if response.status_code >= 500 or response.status_code in (408, 425, 429):
        raise TransientFailure(f"{url}: HTTP {response.status_code}")
    if response.status_code >= 300:
        raise PermanentFailure(Problem("api.refused", f"HTTP {response.status_code}", url))
    try:
        return json.loads(response.content.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise TransientFailure(f"{url}: not JSON: {error}") from error


def _must_succeed(contract: Contract, answer: Any, url: str) -> None:
    """An API may say no with HTTP 200: the contract tells where to look."""
    test = contract.source.api.get("success")
    if test and _at(answer, test["path"]) != test["equals"]:
        message = _at(answer, test["message"]) if test.get("message") else None
        raise TransientFailure(f"{url}: the API answered but did not succeed: {message}")


def _at(answer: Any, path: str) -> Any:
    for step in path.split("."):
        if not isinstance(answer, dict):
            return None
        answer = answer.get(step)
    return answer


def _filled(value: str, day: date) -> str:
    """`{business_date}` and `{business_date-45}` (days before) in a parameter."""
    for before in sorted({int(part.split("}")[0] or 0) for part in value.split("{business_date")[1:]}):
        mark = f"{{business_date{before or ''}}}"
        value = value.replace(mark, (day + timedelta(days=before)).isoformat())
    return value
