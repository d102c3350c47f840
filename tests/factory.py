"""Valid deliveries of any feed, made from its contract alone, so that tests run over every contract there is.

All values are synthetic. Rows are dictionaries of column name to text (None for empty).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import duckdb
import polars as pl
import pytest
from sampan.contracts.model import Column, Contract
from sampan.contracts.registry import all_contracts, get_contract
from sampan.settings import settings

DAY = date(2026, 7, 6)
FEEDS = tuple(all_contracts())
Row = dict[str, str | None]


def feeds(condition: Callable[[Contract], bool] = lambda contract: True, *, least: int = 1) -> list[str]:
    """Feeds whose contract meets a condition. Fewer than `least` fail the collection: an empty set proves nothing."""
    chosen = [feed for feed, contract in all_contracts().items() if condition(contract)]
    assert len(chosen) >= least, f"{len(chosen)} feeds meet the condition, {least} were expected"
    return chosen


def representative_feeds(chosen: Sequence[str]) -> list[Any]:
    """Feeds as parameters: of those that are written alike the first one always, its like only in the long suite."""
    seen: set[tuple[str, ...]] = set()
    parameters = []
    for feed in chosen:
        source = get_contract(feed).source
        kind = (source.kind, source.format, source.encoding, source.compression)
        parameters.append(pytest.param(feed, marks=[pytest.mark.slow] if kind in seen else []))
        seen.add(kind)
    return parameters


# --- rows -------------------------------------------------------------------------------------------------------------


def rows(feed: str, count: int, day: date = DAY, seed: int = 0) -> list[Row]:
    """`count` rows that break no rule of the feed's contract on `day`, no two with the same key."""
    return [dict(row) for row in _rows(feed, count, day, seed)]


@cache
def _rows(feed: str, count: int, day: date, seed: int) -> tuple[Row, ...]:
    drawing = _drawing(feed, day, seed, max(3 * count, 100))
    for _ in range(60):
        if len(drawing.found) >= count:
            return tuple(islice(drawing.found.values(), count))
        drawing.go_on()
    raise AssertionError(f"{feed}: no way found to meet all rules of its contract")


@cache
def _drawing(feed: str, day: date, seed: int, size: int) -> _Drawing:
    return _Drawing(get_contract(feed), day, size, random.Random(f"{feed}{day}{seed}"))


@dataclass
class _Drawing:
    """Rows of a feed that were found so far by their keys, of `size` that are drawn at a time."""

    contract: Contract
    day: date
    size: int
    chance: random.Random
    found: dict[tuple[str | None, ...], Row] = field(default_factory=dict)

    def go_on(self) -> None:
        """Draw once more and keep what is valid."""
        valid, key = list(self.found.values()), self.contract.key
        span = 60 if len(key) > 1 else 5000
        # Once some rows are known to be right, more are made by changing a few of their values and the whole key.
        bases = [self.chance.choice(valid) if len(valid) >= 8 else None for _ in range(self.size)]
        drawn = [
            {
                column.name: base[column.name]
                if base is not None and not column.primary_key and self.chance.random() < 0.8
                else value(column, self.day, self.chance, span)
                for column in self.contract.columns
            }
            for base in bases
        ]
        for row in _valid(self.contract, drawn, self.day):
            self.found.setdefault(tuple(row[name] for name in key), row)


def _valid(contract: Contract, drawn: list[Row], day: date) -> list[Row]:
    """Those of the drawn rows that meet every row rule, asked in SQL of another engine than the warehouse's."""
    types = {"text": "varchar", "numeric": "decimal(38, 6)", "timestamptz": "timestamp"}
    casts = ", ".join(f'try_cast("{c.name}" as {types.get(c.type, c.type)}) as "{c.name}"' for c in contract.columns)
    tests = " and ".join(f"({rule.predicate}) is not false" for rule in contract.row_rules) or "true"
    table = pl.DataFrame(drawn, schema=dict.fromkeys((c.name for c in contract.columns), pl.String))
    connection = _duckdb()
    connection.register("drawn", table.with_row_index("position").to_arrow())
    good = connection.execute(
        f"select position from (select position, {casts}, date '{day}' as business_date from drawn)"
        f" where {tests} order by position"
    ).fetchall()
    return [drawn[position] for (position,) in good]


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def value(column: Column, day: date, chance: random.Random, span: int = 60) -> str | None:
    """A value that its column's own rules accept, a date of the `span` days until `day`; now and then None."""
    if not column.required and chance.random() < 0.4:
        return None
    options = column.options
    if column.enum:
        return chance.choice(column.enum)
    if "pattern" in options:
        return matching(options["pattern"], chance)
    if column.type == "boolean":
        return chance.choice(("true", "false"))
    if column.type in ("date", "timestamptz"):
        earliest = date.fromisoformat(str(options.get("minimum", date.min))[:10])
        moment = max(day - timedelta(days=chance.randrange(span)), earliest).isoformat()
        clock = f" {chance.randrange(9, 18):02}:{chance.randrange(60):02}:{chance.randrange(60):02}"
        return moment if column.type == "date" else moment + clock
    if column.type in ("bigint", "numeric"):
        low = Decimal(str(options.get("minimum", options.get("exclusiveMinimum", 0))))
        high = min(Decimal(str(options.get("maximum", 10**6))), low + 5000)
        if column.type == "bigint":
            return str(int(low) + chance.randrange(int(min(high - low, Decimal(40))) + 1))
        return str((low + (high - low) * chance.randrange(1, 1000) / 1000).quantize(Decimal("0.01")))
    length = int(options.get("maxLength", 60))
    return f"Synthetic {column.name} {chance.randrange(10**6)}"[:length].rstrip()


def matching(pattern: str, chance: random.Random) -> str:
    """Text that a regular expression matches; of the first alternatives, so that a number comes before a pseudonym."""
    return "".join(_sampled(_parts(pattern), chance))


@dataclass(frozen=True)
class _Repeated:
    """From `low` to `high` times a character of `alphabet`, or where that is empty what `parts` give."""

    low: int
    high: int
    alphabet: str = ""
    parts: tuple[str | _Repeated, ...] = ()


@cache
def _parts(pattern: str) -> tuple[str | _Repeated, ...]:
    """What a text of a pattern consists of: fixed text, and what is repeated. A sample of it is tried on the pattern."""
    parts = _parts_of(parser.parse(pattern))
    text = "".join(_sampled(parts, random.Random(0)))
    assert re.search(pattern, text), (pattern, text)
    return parts


def _parts_of(parsed: Any) -> tuple[str | _Repeated, ...]:
    parts: list[str | _Repeated] = []
    for code, argument in parsed:
        if code is codes.LITERAL:
            parts.append(chr(argument))
        elif code is codes.IN:
            parts.append(_Repeated(1, 1, "".join(_members(argument))))
        elif code is codes.MAX_REPEAT:
            low, high, inner = argument
            (first, *others) = _parts_of(inner)
            alphabet = first.alphabet if isinstance(first, _Repeated) and not others and first.high == 1 else ""
            parts.append(_Repeated(low, min(high, low + 4), alphabet, () if alphabet else (first, *others)))
        elif code is codes.SUBPATTERN:
            parts += _parts_of(argument[3])
        elif code is codes.BRANCH:
            parts += _parts_of(argument[1][0])
        elif code is not codes.AT:
            raise AssertionError(f"the factory cannot sample {code}")
    return tuple(parts)


def _members(choices: Any) -> Iterator[str]:
    """Characters of a class, of each range a few."""
    for code, argument in choices:
        if code is codes.LITERAL:
            yield chr(argument)
        else:
            first, last = argument
            yield from map(chr, range(first, last + 1, max(1, (last - first) // 100)))


def _sampled(parts: Iterable[str | _Repeated], chance: random.Random) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
            continue
        times = part.low if part.low == part.high else part.low + int(chance.random() * (part.high - part.low + 1))
        if part.alphabet:
            yield from chance.choices(part.alphabet, k=times)
        else:
            for _ in range(times):
                yield from _sampled(part.parts, chance)


def hkid(letters: str, digits: str, brackets: bool = True) -> str:
    """A synthetic HKID number with the right check digit."""
    values = [36 if char == " " else ord(char) - 55 for char in letters.rjust(2)] + [int(digit) for digit in digits]
    check = -sum(item * weight for item, weight in zip(values, range(9, 1, -1), strict=True)) % 11
    mark = "A" if check == 10 else str(check)
    return f"{letters}{digits}({mark})" if brackets else f"{letters}{digits}{mark}"


# --- deliveries -------------------------------------------------------------------------------------------------------


def encode(
    contract: Contract,
    given: Sequence[Mapping[str, str | None]],
    *,
    renamed: Mapping[str, str] | None = None,
    added: Mapping[str, Sequence[str | None]] | None = None,
    without: Sequence[str] = (),
    backwards: bool = False,
) -> bytes:
    """Rows as the partner would write them. `renamed` maps columns to headings, `added` headings to their values."""
    columns = [column for column in contract.columns if column.name not in without]
    headings = [(renamed or {}).get(column.name, column.source_name) for column in columns] + list(added or {})
    kinds = [column.type for column in columns] + ["text"] * len(added or {})
    records = [
        [row.get(column.name) for column in columns] + [values[number] for values in (added or {}).values()]
        for number, row in enumerate(given)
    ]
    if backwards:
        headings, kinds, records = headings[::-1], kinds[::-1], [record[::-1] for record in records]
    body = {"csv": _csv, "jsonl": _jsonl, "xlsx": _xlsx, "parquet": _parquet, "fixed": _fixed}[contract.source.format](
        contract, headings, kinds, records
    )
    return compress(contract, body)


def compress(contract: Contract, body: bytes) -> bytes:
    """Bytes compressed as the feed's contract says."""
    if contract.source.compression == "gzip":
        return gzip.compress(body, 1)
    if contract.source.compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=1).compress(body)
    return body


def _csv(contract: Contract, headings: list[str], kinds: list[str], records: list[list[str | None]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=contract.source.delimiter, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([[item or "" for item in record] for record in records])
    return out.getvalue().encode(contract.source.encoding)


def json_line(headings: Sequence[str], kinds: Sequence[str], record: Sequence[str | None]) -> str:
    """One record as a JSON object, numbers as they are written and not as floats."""
    parts = []
    for heading, kind, item in zip(headings, kinds, record, strict=True):
        bare = item is not None and kind in ("bigint", "boolean", "numeric")
        parts.append(f"{json.dumps(heading, ensure_ascii=False)}: {item if bare else json.dumps(item)}")
    return "{" + ", ".join(parts) + "}"


def _jsonl(contract: Contract, headings: list[str], kinds: list[str], records: list[list[str | None]]) -> bytes:
    return "".join(json_line(headings, kinds, record) + "\n" for record in records).encode(contract.source.encoding)


def _xlsx(contract: Contract, headings: list[str], kinds: list[str], records: list[list[str | None]]) -> bytes:
    import xlsxwriter

    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        sheet = book.add_worksheet(contract.source.sheet)
        for number, heading in enumerate(headings):
            sheet.write_string(contract.source.header_row - 1, number, heading)
        for line, record in enumerate(records, contract.source.header_row):
            for number, (kind, item) in enumerate(zip(kinds, record, strict=True)):
                if item is None:
                    continue
                typed = _typed(kind, item)
                if isinstance(typed, date):
                    sheet.write_datetime(line, number, typed, day)
                elif isinstance(typed, str):
                    sheet.write_string(line, number, typed)
                else:
                    sheet.write(line, number, typed)
    return out.getvalue()


def _parquet(contract: Contract, headings: list[str], kinds: list[str], records: list[list[str | None]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "text": pa.string(), "bigint": pa.int64(), "numeric": pa.decimal128(20, 2), "boolean": pa.bool_(),
        "date": pa.date32(), "timestamptz": pa.string(),
    }  # fmt: skip
    arrays = [
        pa.array([None if r[i] is None else _typed(kind, r[i] or "") for r in records], types[kind])
        for i, kind in enumerate(kinds)
    ]
    out = io.BytesIO()
    pq.write_table(pa.table(arrays, names=headings), out)
    return out.getvalue()


def _fixed(contract: Contract, headings: list[str], kinds: list[str], records: list[list[str | None]]) -> bytes:
    lines = []
    for record in records:
        line = ""
        for column, kind, item in zip(contract.columns, kinds, record, strict=True):
            fill = str.ljust if kind == "text" else str.rjust
            line = line.ljust((column.start or 1) - 1) + fill(item or "", column.length or 0)
        lines.append(line + "\n")
    return "".join(lines).encode(contract.source.encoding)


def _typed(kind: str, item: str) -> Any:
    try:
        if kind == "bigint":
            return int(item)
        if kind == "numeric":
            return Decimal(item)
        if kind == "date":
            return date.fromisoformat(item)
    except (ValueError, ArithmeticError):
        return item
    return item == "true" if kind == "boolean" and item in ("true", "false") else item


def plain(item: Any) -> str | None:
    """A value of the warehouse or of a row in one notation, to compare them."""
    if item is None or item == "":
        return None
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, Decimal):
        return f"{item.normalize():f}"
    if hasattr(item, "isoformat"):
        return str(item.isoformat(" ") if hasattr(item, "hour") else item.isoformat()).removesuffix("+08:00")
    text = str(item)
    return f"{Decimal(text).normalize():f}" if re.fullmatch(r"-?[0-9]+\.[0-9]+", text) else text


def stored(contract: Contract, given: Sequence[Row]) -> list[tuple[str | None, ...]]:
    """Rows as they should stand in raw, sorted."""
    return sorted((tuple(plain(row[c.name]) for c in contract.stored) for row in given), key=str)


# --- partners ---------------------------------------------------------------------------------------------------------


@dataclass
class Api:
    """A small HTTP server that pages through `records` in the shape that a contract promises.

    `turn` may replace an answer: it is given the number of the request and the proper one as (status, body).
    """

    contract: Contract
    records: list[str] = field(default_factory=list)
    turn: Callable[[int, int, bytes], tuple[int, bytes]] = lambda number, status, body: (status, body)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, query: dict[str, str]) -> bytes:
        """The proper answer to a request."""
        request = self.contract.source.requests[0]
        paging = request.pagination
        start, size = int(query.get(paging["offset"], 0)), int(query.get(paging["limit"], paging["size"]))
        page = f"[{', '.join(self.records[start : start + size])}]"
        document: dict[str, Any] = {}
        for path, item in (
            (request.success["path"], request.success["equals"]),
            (request.success["message"], "No error found"),
            (request.total, len(self.records)),
            (request.records, "@records@"),
        ):
            *above, last = path.split(".")
            inner = document
            for step in above:
                inner = inner.setdefault(step, {})
            inner[last] = item
        return json.dumps(document).replace('"@records@"', page).encode()

    def __enter__(self) -> Self:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = dict(parse_qsl(urlsplit(self.path).query))
                api.asked.append(query)
                status, body = api.turn(len(api.asked), 200, api.answer(query))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/public"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Partner:
    """Hands deliveries of any feed over: files into the drop prefix, open data through an API."""

    sampan: Any
    patch: pytest.MonkeyPatch

    def hands_over(self, feed: str, day: date, given: Sequence[Row], name: str = "delivery", **changes: Any) -> bytes:
        """Deliver rows as the contract says and let fetch find them. Returns the bytes."""
        from sampan.ingest import fetch

        contract = get_contract(feed)
        body = encode(contract, given, **changes)
        requests = contract.source.requests
        if not (requests and requests[0].pagination and re.fullmatch("[a-z_.]+", requests[0].records)):
            # A drop prefix, or an API whose answers are rearranged: what fetch would have put there.
            self.puts(feed, day, f"{name}.{contract.source.extension}", body)
            return body
        with Api(contract, body.decode().splitlines()) as api, self.patch.context() as patch:
            patch.setenv(requests[0].base_variable, api.url)
            settings.cache_clear()
            fetch.run(feed, day)
        settings.cache_clear()
        return body

    def puts(self, feed: str, day: date | str, name: str, body: bytes) -> None:
        """Deliver bytes as they are and let fetch find them."""
        self.sampan.deliver(feed, day, name, body)
        self.finds(feed)

    def finds(self, feed: str) -> None:
        """Fetch without asking an API."""
        from sampan.ingest import fetch

        with self.patch.context() as patch:
            patch.setattr(fetch, "_download", lambda contract, day: None)
            fetch.run(feed)

    def ingest(self, feed: str, day: date | None = None) -> dict[str, Any]:
        """Land, load, gate and publish; returns the newest batch."""
        from sampan.ingest import gate, land, load, publish

        for step in (land, load, gate, publish):
            step.run(feed, day)
        return self.sampan.batch(feed)

    def raw(self, feed: str) -> list[tuple[str | None, ...]]:
        """All rows of raw.<feed>, stored columns in the contract's order, sorted."""
        names = ", ".join(f'"{column.name}"' for column in get_contract(feed).stored)
        found = self.sampan.rows(f'select {names} from raw."{feed}"')
        return sorted((tuple(plain(item) for item in row) for row in found), key=str)

    def quarantined(self, feed: str) -> list[tuple[int, list[str]]]:
        """(line, broken rules) of the feed's quarantined rows in order of line."""
        query = "select line, broken_rules from quarantine.record where feed = %s order by batch_id, line"
        return self.sampan.rows(query, feed)


@pytest.fixture
def partner(sampan: Any, monkeypatch: pytest.MonkeyPatch) -> Partner:
    """Partners of a fresh installation."""
    return Partner(sampan, monkeypatch)


def in_lake(sampan: Any, feed: str) -> list[tuple[Any, ...]]:
    """Batch, line and stored columns of every row of a feed's objects in the lake, in the order of batch and line."""
    names = ["_batch_id", "_line", *(column.name for column in get_contract(feed).stored)]
    found = [
        pl.read_parquet(io.BytesIO(sampan.s3.get_object(Bucket="lake", Key=item["Key"])["Body"].read()))
        for item in sampan.s3.list_objects_v2(Bucket="lake", Prefix=f"{feed}/").get("Contents", [])
    ]
    return pl.concat(found).select(names).sort("_batch_id", "_line").rows() if found else []


def adds_up(sampan: Any) -> None:
    """Every published batch accounts for each of its records, in the ledger and in the tables."""
    wrong = []
    for feed, batch, rows_in, published, quarantined, duplicate in sampan.rows(
        "select feed, batch_id, rows_in, rows_published, rows_quarantined, rows_duplicate from ops.batch"
        " where state in ('published', 'withdrawn')"
    ):
        raw = sampan.one(f'select count(*) from raw."{feed}" where _batch_id = %s', batch)
        kept = sampan.one("select count(*) from quarantine.record where feed = %s and batch_id = %s", feed, batch)
        if (rows_in, published, quarantined) != (published + quarantined + duplicate, raw, kept):
            wrong.append((feed, batch, rows_in, published, quarantined, duplicate, raw, kept))
    assert not wrong
    held = sampan.rows("select feed, batch_id from ops.batch where state not in ('published', 'withdrawn')")
    assert all(
        sampan.one(f'select count(*) from raw."{feed}" where _batch_id = %s', batch) == 0 for feed, batch in held
    )
