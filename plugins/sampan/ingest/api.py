"""HTTP client for the APIs of partners: requests, paging, fallbacks and failures as the contract describes them."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import jmespath
from psycopg import sql
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from sampan.contracts.model import Contract, Request
from sampan.contracts.row_rules import bind_business_date
from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.ingest.http_client import Client
from sampan.reading import child
from sampan.reading.shown import beginning
from sampan.settings import settings

log = logging.getLogger(__name__)
MAX_PAGES = 10_000
MAX_STEPS_BACK = 12
MAX_ATTEMPTS = 4
# Seconds that an API may make this feed wait between two attempts, and the feeds behind it.
LONGEST_WAIT = 30.0
# Characters of an error message that are searched, and those that are shown of a message, of a response without one, and of
# a key.
SEARCHED = 8000
SHOWN_OF_MESSAGE, SHOWN_OF_RESPONSE, SHOWN_OF_KEY = 4000, 200, 60
PIECE_BYTES = 1 << 20
# What is done about a failure that the contract has an action for, as a log says it.
GOES_ON = {
    "empty": "there is nothing",
    "step_back": "asked as of the month before",
    "drop_named": "asked without the codes that it names",
}


class RefusedError(Exception):
    """A failed response for which the contract has an `action`; `named` are the codes in its message."""

    def __init__(self, action: str, message: str, named: list[str]) -> None:
        super().__init__(message)
        self.action, self.named = action, named


def response_body(contract: Contract, day: date) -> bytes:
    """Everything that a feed's API returns as of a day, as one file: the response itself, or one JSON record per line.

    It is read in a child process, within the bytes, the memory and the time that the contract allows. Raises
    TransientFailure when a retry may help, and PermanentFailure when the API refuses the request, its response does not
    have the form that the contract describes, or it is too large.
    """
    source, bounds = contract.source, contract.source.bounds
    try:
        pieces = child.iterate(lambda: _body_pieces(contract, day), bounds.max_memory_bytes, bounds.max_seconds)
        return b"".join(pieces)
    except TimeoutError:
        message = f"{source.location}: no complete response within the contract's maxSeconds, {bounds.max_seconds:,}"
        raise TransientFailure(message) from None
    except MemoryError as error:
        most = f"the contract's maxMemoryBytes, {bounds.max_memory_bytes:,}"
        message = f"reading the response takes more memory than {most}" + (f": {error}" if error.args else "")
        raise PermanentFailure(Problem(Code.API_TOO_LARGE, message, source.location)) from None
    except child.ChildError as error:
        message = f"the response cannot be read: {error}"
        raise PermanentFailure(Problem(Code.API_SHAPE, message, source.location)) from None


def _body_pieces(contract: Contract, day: date) -> Iterator[bytes]:
    """The file that is made of a feed's API, in pieces."""
    source = contract.source
    try:
        with Client(source.bounds.max_bytes) as client:
            if source.format != "jsonl":
                first = source.requests[0]
                body = _retrying()(_get, client, first, _render_dates(first.parameters, day), day).content
            else:
                records = [record for request in source.requests for record in _records(client, request, day)]
                text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
                # JSON can contain half of a surrogate pair, which UTF-8 cannot encode: it stays escaped and goes to
                # quarantine.
                body = text.encode(errors="backslashreplace")
    except (SampanError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the next feed has its turn for any answer
        message = f"the response does not have the form that the contract describes: {type(error).__name__}"
        raise PermanentFailure(Problem(Code.API_SHAPE, message, source.location)) from None
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _retrying() -> Retrying:
    """Up to MAX_ATTEMPTS while the failure is transient, not before the API says that it may be asked again.

    Who is told to wait longer than LONGEST_WAIT asks no more: other feeds wait for their turn.
    """
    usual = wait_exponential(multiplier=0.2, max=5)
    return Retrying(
        retry=retry_if_exception_type(TransientFailure),
        stop=lambda state: state.attempt_number >= MAX_ATTEMPTS or _told_to_wait(state) > LONGEST_WAIT,
        wait=lambda state: max(usual(state), _told_to_wait(state)),
        reraise=True,
    )


def _told_to_wait(state: RetryCallState) -> float:
    """Seconds that the last attempt was told to wait; 0 if it was not."""
    error = state.outcome and state.outcome.exception()
    return error.retry_after if isinstance(error, TransientFailure) else 0.0


def _retry_after(response: httpx.Response) -> float:
    """Seconds of a response's Retry-After, which are a number or a date (RFC 9110, 10.2.3); 0 without a valid one."""
    written = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", written):
        return float(written)
    try:
        until = parsedate_to_datetime(written)
    except (ValueError, OverflowError):
        return 0.0
    seconds: float = (until - datetime.now(until.tzinfo)).total_seconds()
    return max(0.0, seconds)


def _records(client: Client, request: Request, day: date) -> Iterator[dict[str, Any]]:
    """Records of every combination of parameters. A month that one of them says is not published is not requested again."""
    as_of = day
    for parameters in itertools.product(*(_expand(entry, day) for entry in request.each)):
        chosen = request.parameters | {key: str(value) for choice in parameters for key, value in choice.items()}
        values = [str(value) for value in request.batch.get("values", ())]
        size = request.batch.get("size") or 1
        for start in range(0, max(len(values), 1), size):
            records, as_of = _fetch_with_fallback(client, request, chosen, values[start : start + size], as_of)
            yield from records


def _expand(entry: Any, day: date) -> list[dict[str, str]]:
    """The parameters of one entry of `each`: those in the contract, or the newest values of a column of raw."""
    if isinstance(entry, list):
        return entry
    query = sql.SQL(
        """
        select {0} from raw.{1}
        where {0} is not null and ({2})
        group by {0}
        order by max(_batch_id) desc, {0}
        limit {3}
        """
    ).format(
        sql.Identifier(entry["column"]),
        sql.Identifier(entry["feed"]),
        sql.SQL(bind_business_date(entry["where"], day)),
        sql.Literal(entry["limit"]),
    )
    with connect() as connection:
        return [{entry["parameter"]: str(value)} for (value,) in connection.execute(query)]


def _fetch_with_fallback(
    client: Client, request: Request, parameters: dict[str, str], values: list[str], as_of: date
) -> tuple[list[dict[str, Any]], date]:
    """Records for one combination of parameters, and the day they are as of.

    When the response says that a month or some values do not exist, the request is repeated without them.
    """
    for _ in range(MAX_STEPS_BACK + len(values) + 1):
        batch = {request.batch["parameter"]: ",".join(values)} if values else {}
        try:
            return _retrying()(_all_pages, client, request, parameters | batch, as_of), as_of
        except RefusedError as refusal:
            # Foreseen by the contract, so no warning.
            log.info("%s: %s, since the API says: %s", request.name, GOES_ON[refusal.action], refusal)
            if refusal.action == "empty":
                return [], as_of
            if refusal.action == "step_back":
                as_of = as_of.replace(day=1) - timedelta(days=1)
                continue
            left = [value for value in values if value not in refusal.named]
            if left == values:
                problem = Problem(
                    Code.API_REFUSED,
                    f"the response rejects values that were not requested: {refusal}",
                    _url(request, as_of),
                )
                raise PermanentFailure(problem) from refusal
            if not left:
                return [], as_of
            values = left
    raise TransientFailure(f"{_url(request, as_of)}: no data available from {as_of} onwards")


def _all_pages(client: Client, request: Request, parameters: dict[str, str], day: date) -> list[dict[str, Any]]:
    """Every record of one request: pages are asked for until one is empty or the API's total is reached.

    A page may be smaller than asked for: an API may have a limit of its own. Raises TransientFailure when pages repeat or
    their total changes or does not match.
    """
    url, paging = _url(request, day), request.pagination
    records: list[dict[str, Any]] = []
    digests: set[str] = set()
    totals: set[Any] = set()
    for _ in range(MAX_PAGES):
        page = {paging["limit"]: str(paging["size"]), paging["offset"]: str(len(records))} if paging else {}
        batch, total = _page(client, request, _render_dates(parameters, day) | page, day, is_first=not records)
        if not paging:
            return batch
        digest = hashlib.sha256(json.dumps(batch, sort_keys=True).encode()).hexdigest()
        if batch and digest in digests:
            raise TransientFailure(f"{url}: the page at offset {len(records)} repeats an earlier one")
        digests.add(digest)
        records += batch
        # Some APIs give the size of the page, others that of the whole: a total that differs from the page's is of the whole.
        if total is not None and batch and total != len(batch):
            totals.add(total)
        if len(totals) > 1:
            raise TransientFailure(f"{url}: the total changed between pages: {sorted(totals)}")
        if not batch or (totals and len(records) >= next(iter(totals))):
            break
    else:
        raise PermanentFailure(Problem(Code.API_SHAPE, f"the response has more than {MAX_PAGES} pages", url))
    if totals and len(records) != next(iter(totals)):
        raise TransientFailure(f"{url}: received {len(records)} records, but the API's total is {next(iter(totals))}")
    return records


def _page(
    client: Client, request: Request, parameters: dict[str, str], day: date, *, is_first: bool
) -> tuple[list[dict[str, Any]], int | None]:
    """Records of one response, and the total that it gives. Past the last record, "none" is an empty page."""
    url = _url(request, day)
    try:
        answer = _parse_json(_get(client, request, parameters, day), _once)
    except _KeyTwiceError as error:
        key = beginning(str(error), SHOWN_OF_KEY)
        message = f"the response has the key {key!r} twice in one object: which value counts is not known"
        raise PermanentFailure(Problem(Code.API_SHAPE, message, url)) from None
    except RefusedError as refusal:
        if refusal.action == "empty" and not is_first:
            return [], None
        raise
    batch = jmespath.search(request.records, answer)
    if batch is None and not is_first:
        return [], None
    if not isinstance(batch, list) or not all(isinstance(record, dict) for record in batch):
        raise PermanentFailure(
            Problem(Code.API_SHAPE, f"the response has no list of records at {request.records}", url)
        )
    total = jmespath.search(request.total, answer) if request.total else None
    if total is not None and not isinstance(total, int):
        raise PermanentFailure(Problem(Code.API_SHAPE, f"the response has no number at {request.total}", url))
    return batch, total


def _url(request: Request, day: date) -> str:
    """The contract's address; an environment variable may replace its base."""
    location = _render_dates({"": request.location}, day)[""]
    if not request.base_variable:
        return location
    return settings().get(request.base_variable, request.base).rstrip("/") + location.removeprefix(request.base)


def _get(client: Client, request: Request, parameters: dict[str, str], day: date) -> httpx.Response:
    """One successful response. A failed one raises an error by the contract's `failures` or else by its HTTP status."""
    url = _url(request, day)
    if request.pause_seconds and url == request.location:
        time.sleep(request.pause_seconds)
    # Some servers do not decode percent-encoded brackets and commas.
    query = urlencode(parameters, quote_via=quote, safe="[],")
    response = client.get(f"{url}?{query}" if query else url)
    status = response.status_code
    if status < 300 and _succeeded(request, response):
        return response
    said, most = _error_message(request, response)
    message = beginning(said, most)
    for failure in request.failures:
        found = re.findall(failure["match"], said)
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
    trouble = f"HTTP {status}"
    if status < 300:
        is_json = _parse_json(response) is not None
        trouble = "the response does not report success" if is_json else "the response is not JSON"
    wait = _retry_after(response)
    asks = f"; the API asks to wait {wait:,.0f} seconds" if wait else ""
    raise TransientFailure(f"{url}: {trouble}: {message}{asks}", retry_after=wait)


def _parse_json(response: httpx.Response, pairs: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """The JSON of a response, which may begin with a byte order mark. None when it is not JSON.

    `pairs` makes an object of its keys and values.
    """
    content = response.content.removeprefix(b"\xef\xbb\xbf")
    try:
        return json.loads(content, parse_float=_exact_number, object_pairs_hook=pairs)
    except ValueError:
        return None


class _KeyTwiceError(Exception):
    """An object has a key twice; the text is the key."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ; Python would keep the last value, and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwiceError(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
    return found


def _exact_number(written: str) -> float | str:
    """A number as float, or as text if a float would change it."""
    number = float(written)
    return number if repr(number) == written else written


def _succeeded(request: Request, response: httpx.Response) -> bool:
    """Whether the response reports success: some APIs fail with HTTP 200, and the contract says where to look."""
    if not request.records:
        return bool(response.content)
    answer = _parse_json(response)
    if answer is None:
        return False
    return (
        "path" not in request.success or jmespath.search(request.success["path"], answer) == request.success["equals"]
    )


def _error_message(request: Request, response: httpx.Response) -> tuple[str, int]:
    """The error message of a failed response: where the contract says it is, or else the beginning of the response.

    With how many characters of it are shown.
    """
    answer, path = _parse_json(response), request.success.get("message")
    message = jmespath.search(path, answer) if path and answer is not None else None
    text = "; ".join(map(str, message)) if isinstance(message, list) else str(message or "")
    if text:
        return text[:SEARCHED].strip(), SHOWN_OF_MESSAGE
    # Not by the charset that the response claims: some that Python knows are not for text.
    return response.content[:SEARCHED].decode(errors="replace").strip(), SHOWN_OF_RESPONSE


def _render_dates(parameters: dict[str, str], day: date) -> dict[str, str]:
    """Parameters with `{business_date}` replaced, shifted (`-45` days, `-13m` months) and formatted (`:%Y%m`)."""

    def render(mark: re.Match[str]) -> str:
        by = int(mark[1] or 0)
        months = day.year * 12 + day.month - 1 + by
        # Every month has a 28th.
        moved = (
            min(day.replace(day=28), day).replace(year=months // 12, month=months % 12 + 1)
            if mark[2]
            else day + timedelta(days=by)
        )
        return moved.strftime(mark[3]) if mark[3] else moved.isoformat()

    pattern = r"\{business_date(?:([+-]\d+)(m?))?(?::([^{}]+))?\}"
    return {key: re.sub(pattern, render, value) for key, value in parameters.items()}
