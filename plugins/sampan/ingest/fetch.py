"""fetch: find out what a partner has ready. A drop prefix is listed; an API is asked as its contract says, and what it
answers is put into its drop prefix as one file, so that every delivery goes the same way from there on."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import jmespath
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sampan.calendar import today
from sampan.contracts import row_rules as rules
from sampan.contracts.model import Contract, Request
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.ingest import freshness
from sampan.object_store import list_objects, s3_errors
from sampan.settings import settings

log = logging.getLogger(__name__)
MAX_PAGES = 10_000
MAX_STEPS_BACK = 12


def run(feed: str, business_date: date | None = None, only_owed: bool = False) -> dict[str, int]:
    """Note every delivery that is new to the ledger. Returns how many were seen for the first time.

    An API is asked as of `business_date`; where none is given, as of today, or the day at which the clock was set to stand.
    One that answers for a week or a month is not asked, with `only_owed`, once it has answered for the present one.
    """
    contract = get_contract(feed)
    if contract.source.kind == "api" and not (only_owed and business_date is None and _has_answered(contract)):
        _ask(contract, business_date or freshness.now().date())
    seen = 0
    with connect() as connection:
        for item in list_objects(contract.drop_prefix):
            if item["Key"].endswith("/"):
                continue
            uri = f"s3://{settings().drop_bucket}/{item['Key']}"
            seen += connection.execute(
                "insert into ops.delivery (source_uri, etag, feed, business_date, received_at, bytes)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (source_uri, etag) do update"
                " set problem = null, batch_id = null, deleted_at = null, received_at = excluded.received_at,"
                " seen_at = clock_timestamp()"
                # What was refused for a passing reason is looked at again once the reason has passed, and what was deleted
                # when it is there again.
                " where delivery.deleted_at is not null or delivery.problem ->> 'rule' = 'delivery.gone'"
                " or delivery.problem ->> 'rule' = 'delivery.future_date' and delivery.business_date <= %s",
                [uri, item["ETag"], feed, _date_of(contract, item["Key"]), item["LastModified"], item["Size"], today()],
            ).rowcount
    freshness.looked(feed)
    return {"seen": seen}


def _has_answered(contract: Contract) -> bool:
    """Whether a weekly or monthly API has answered for the newest slot that is due."""
    if contract.calendar.days not in ("weekly", "monthly"):
        return False
    now = freshness.now()
    due = [row["state"] for row in freshness.days(contract.feed) if row["due_at"] <= now]
    return due[-1:] == ["arrived"]


def _date_of(contract: Contract, key: str) -> date | None:
    """The business date that the key names, or None where it names none."""
    folder = key.removeprefix(contract.drop_prefix).split("/")[0]
    try:
        return date.fromisoformat(folder) if len(folder) == 10 else None
    except ValueError:
        return None


# --- APIs -------------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """An answer that failed in a way that the contract has an `action` for; `named` is what its message names."""

    def __init__(self, action: str, message: str, named: list[str]) -> None:
        super().__init__(message)
        self.action, self.named = action, named


def _ask(contract: Contract, day: date) -> None:
    """Ask for everything as of a day, and put it into the drop prefix, named by its content."""
    source = contract.source
    try:
        body = _answered(contract, day)
    except SampanError as error:
        # The partner was asked and gave nothing: whoever asks what is late should know that it was not for want of asking.
        problem = error.problem if isinstance(error, PermanentFailure) else Problem(Code.API_AWAY, str(error))
        freshness.looked(contract.feed, problem)
        raise
    name = f"{contract.feed}_{hashlib.sha256(body).hexdigest()[:16]}.{source.extension}"
    with s3_errors():
        settings().s3().put_object(Bucket=settings().drop_bucket, Key=f"{contract.drop_prefix}{day}/{name}", Body=body)


def _answered(contract: Contract, day: date) -> bytes:
    """Everything that the API says as of a day, as one file."""
    source = contract.source
    try:
        with httpx.Client(timeout=30, follow_redirects=True, headers={"User-Agent": "sampan"}) as client:
            if source.format != "jsonl":
                first = source.requests[0]
                return _again()(_get, client, first, _filled(first.parameters, day), day).content
            records = [record for request in source.requests for record in _records(client, request, day)]
            text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    except (RecursionError, jmespath.exceptions.JMESPathError) as error:
        message = f"an answer is not of the shape that the contract expects: {type(error).__name__}"
        raise PermanentFailure(Problem(Code.API_SHAPE, message, source.location)) from None
    # Half a character, which JSON can spell and no encoding holds, stays spelt: the gate quarantines its record.
    return text.encode(errors="backslashreplace")


def _again() -> Retrying:
    """Tries a few times while what goes wrong may pass."""
    return Retrying(
        retry=retry_if_exception_type(TransientFailure),
        stop=stop_after_attempt(4),
        wait=wait_exponential(multiplier=0.2, max=5),
        reraise=True,
    )


def _records(client: httpx.Client, request: Request, day: date) -> Iterator[dict[str, Any]]:
    """Records of every request of the plan. A month that is not out for one of them is not asked for again."""
    as_of = day
    for parameters in itertools.product(*(_choices(entry, day) for entry in request.each)):
        asked = request.parameters | {key: str(value) for choice in parameters for key, value in choice.items()}
        values = [str(value) for value in request.batch.get("values", ())]
        size = request.batch.get("size") or 1
        for start in range(0, max(len(values), 1), size):
            records, as_of = _settled(client, request, asked, values[start : start + size], as_of)
            yield from records


def _choices(entry: Any, day: date) -> list[dict[str, str]]:
    """The parameters that one entry of `each` stands for."""
    if isinstance(entry, list):
        return entry
    query = sql.SQL(
        "select {0} from raw.{1} where {0} is not null and ({2})"
        " group by {0} order by max(_batch_id) desc, {0} limit {3}"
    ).format(
        sql.Identifier(entry["column"]),
        sql.Identifier(entry["feed"]),
        sql.SQL(rules.dated(entry["where"], day)),
        sql.Literal(entry["limit"]),
    )
    with connect() as connection:
        return [{entry["parameter"]: str(value)} for (value,) in connection.execute(query)]


def _settled(
    client: httpx.Client, request: Request, parameters: dict[str, str], values: list[str], as_of: date
) -> tuple[list[dict[str, Any]], date]:
    """Records of one request of the plan and the day as of which they are to be had.

    It is asked again for less where the answer says that not all of it exists.
    """
    for _ in range(MAX_STEPS_BACK + len(values) + 1):
        batch = {request.batch["parameter"]: ",".join(values)} if values else {}
        try:
            return _again()(_all_pages, client, request, parameters | batch, as_of), as_of
        except RefusedError as refusal:
            log.warning("%s: %s: %s", request.name, refusal.action, refusal)
            if refusal.action == "empty":
                return [], as_of
            if refusal.action == "step_back":
                as_of = as_of.replace(day=1) - timedelta(days=1)
                continue
            left = [value for value in values if value not in refusal.named]
            if left == values:
                problem = Problem(Code.API_REFUSED, f"names what was not asked for: {refusal}", _url(request, as_of))
                raise PermanentFailure(problem) from refusal
            if not left:
                return [], as_of
            values = left
    raise TransientFailure(f"{_url(request, as_of)}: nothing to be had as of {as_of} and the months after it")


def _all_pages(client: httpx.Client, request: Request, parameters: dict[str, str], day: date) -> list[dict[str, Any]]:
    """Every record of one request. Pages that repeat, or a total that changes between them, are not believed."""
    url, paging = _url(request, day), request.pagination
    records: list[dict[str, Any]] = []
    digests: set[str] = set()
    totals: set[Any] = set()
    for _ in range(MAX_PAGES):
        page = {paging["limit"]: str(paging["size"]), paging["offset"]: str(len(records))} if paging else {}
        answer = _answer(_get(client, request, _filled(parameters, day) | page, day))
        batch = jmespath.search(request.records, answer)
        if not isinstance(batch, list) or not all(isinstance(record, dict) for record in batch):
            raise PermanentFailure(Problem(Code.API_SHAPE, f"no list of records at {request.records}", url))
        if not paging:
            return batch
        digest = hashlib.sha256(json.dumps(batch, sort_keys=True).encode()).hexdigest()
        if batch and digest in digests:
            raise TransientFailure(f"{url}: the page at offset {len(records)} repeats an earlier one")
        digests.add(digest)
        records += batch
        # Some APIs count the page, some the whole; a count other than the page's is of the whole and must stay.
        total = jmespath.search(request.total, answer) if request.total else None
        if total is not None and not isinstance(total, int):
            raise PermanentFailure(Problem(Code.API_SHAPE, f"no number at {request.total}", url))
        if total is not None and total != len(batch):
            totals.add(total)
        if len(totals) > 1:
            raise TransientFailure(f"{url}: the total changed between pages: {sorted(totals)}")
        if not batch or (totals and len(records) >= next(iter(totals))):
            break
        if not totals and len(batch) < int(paging["size"]):
            break
    else:
        raise PermanentFailure(Problem(Code.API_SHAPE, f"more than {MAX_PAGES} pages", url))
    if totals and len(records) != next(iter(totals)):
        raise TransientFailure(f"{url}: {len(records)} records came, {next(iter(totals))} were promised")
    return records


def _url(request: Request, day: date) -> str:
    """The contract's address; the environment may put another base in the place of the official one."""
    location = _filled({"": request.location}, day)[""]
    if not request.base_variable:
        return location
    return settings().get(request.base_variable, request.base).rstrip("/") + location.removeprefix(request.base)


def _get(client: httpx.Client, request: Request, parameters: dict[str, str], day: date) -> httpx.Response:
    """One answer that succeeded. Raises what the contract, or else its status, makes of one that did not."""
    url = _url(request, day)
    if request.pause_seconds and url == request.location:
        time.sleep(request.pause_seconds)
    # Some servers do not know brackets and commas by their percent codes.
    query = urlencode(parameters, quote_via=quote, safe="[],")
    try:
        response = client.get(f"{url}?{query}" if query else url)
    except httpx.HTTPError as error:
        raise TransientFailure(f"{url}: {type(error).__name__}: {error}") from error
    status = response.status_code
    if status < 300 and _succeeded(request, response):
        return response
    message = _message(request, response)
    for failure in request.failures:
        found = re.findall(failure["match"], message)
        if found and failure["action"] == "transient":
            break
        if found and failure["action"] == "permanent":
            raise PermanentFailure(Problem(Code.API_REFUSED, message, url))
        if found:
            named = [code.strip() for text in found for code in re.split("[,;]", text)]
            raise RefusedError(failure["action"], message, named)
    else:
        if 300 <= status < 500 and status not in (408, 425, 429):
            raise PermanentFailure(Problem(Code.API_REFUSED, f"HTTP {status}: {message}", url))
    if status < 300:
        trouble = "the answer is not JSON" if _answer(response) is None else "the API answered but did not succeed"
        raise TransientFailure(f"{url}: {trouble}: {message}")
    raise TransientFailure(f"{url}: HTTP {status}: {message}")


def _answer(response: httpx.Response) -> Any:
    """The JSON of an answer, which may begin with a byte order mark; None when it is no JSON."""
    try:
        return json.loads(response.content.removeprefix(b"\xef\xbb\xbf"), parse_float=_number)
    except ValueError:
        return None


def _number(written: str) -> float | str:
    """A number of an answer, as text where a float would make another one of it."""
    number = float(written)
    return number if repr(number) == written else written


def _succeeded(request: Request, response: httpx.Response) -> bool:
    """Whether an answer is what was asked for: an API may say no with HTTP 200; the contract tells where to look."""
    if not request.records:
        return bool(response.content)
    answer = _answer(response)
    if answer is None:
        return False
    return (
        "path" not in request.success or jmespath.search(request.success["path"], answer) == request.success["equals"]
    )


def _message(request: Request, response: httpx.Response) -> str:
    """What an answer that failed says of itself: the message where the contract finds one, else how it begins."""
    answer, path = _answer(response), request.success.get("message")
    message = jmespath.search(path, answer) if path and answer is not None else None
    text = "; ".join(map(str, message)) if isinstance(message, list) else str(message or "")
    return (text or response.text[:200]).strip()


def _filled(parameters: dict[str, str], day: date) -> dict[str, str]:
    """Parameters with dates put in for `{business_date}`, moved (`-45` days, `-13m` months) and formatted (`:%Y%m`)."""

    def put(mark: re.Match[str]) -> str:
        by = int(mark[1] or 0)
        months = day.year * 12 + day.month - 1 + by
        # No month lacks a 28th.
        moved = (
            min(day.replace(day=28), day).replace(year=months // 12, month=months % 12 + 1)
            if mark[2]
            else day + timedelta(days=by)
        )
        return moved.strftime(mark[3]) if mark[3] else moved.isoformat()

    pattern = r"\{business_date(?:([+-]\d+)(m?))?(?::([^{}]+))?\}"
    return {key: re.sub(pattern, put, value) for key, value in parameters.items()}
