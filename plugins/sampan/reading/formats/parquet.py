"""Parquet: columns of any type, written as the text that PostgreSQL reads back to the same value."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.chunk import Chunk, Found
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.record import cell_text
from sampan.reading.sieve import in_another_encoding
from sampan.reading.written import ARROW, Written, use_no_pool, written


class Parquet(Format):
    """A Parquet file. A record's line is the number of its row."""

    name = "parquet"
    whole_file_readers = (*ARROW, "pyarrow.parquet")

    def read_layout(self) -> Layout:
        """The layout of the file's schema."""
        file, _, _ = self._open()
        return match_headers(self.delivery, file.schema_arrow.names, first_line=1)

    def chunks(self) -> Iterator[Chunk]:
        """Record batches."""
        first = 1
        for batch in self._batches():
            yield ParquetChunk(self, first, batch)
            first += batch.num_rows

    def _batches(self) -> Iterator[Any]:
        """Arrow record batches of the stored columns, of bounded size once decoded."""
        import numpy as np
        import pyarrow as pa

        names = [header for header in self.layout.headers if header is not None]
        (file, rows, size), given = self._open(), 0
        for batch in file.iter_batches(batch_size=rows, columns=names, use_threads=False):
            sizes = np.zeros(batch.num_rows, np.int64)
            for column in batch.columns:
                lengths = _byte_lengths(column)
                sizes += lengths
            if sizes.max(initial=0) > limits.MAX_RECORD_BYTES:
                raise self.delivery.record_too_long("a row")
            given += int(sizes.sum())
            self.delivery.refuse_bomb(given, size)
            cuts = np.flatnonzero(np.diff(sizes.cumsum() // limits.PARQUET_BATCH_BYTES)) + 1
            for start, end in itertools.pairwise([0, *cuts, batch.num_rows]):
                part = batch.slice(start, end - start)
                columns = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in part.columns]
                yield pa.RecordBatch.from_arrays(columns, part.schema.names)

    def _open(self) -> tuple[Any, int, int]:
        """The file, how many of its rows to decode at once, and its size in bytes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        use_no_pool()
        data = self.delivery.whole()
        file = pq.ParquetFile(pa.BufferReader(data))
        meta = file.metadata
        chunks = [meta.row_group(n).column(c) for n in range(meta.num_row_groups) for c in range(meta.num_columns)]
        unpacked = max(meta.num_rows * meta.num_columns, sum(chunk.total_uncompressed_size for chunk in chunks))
        self.delivery.refuse_bomb(unpacked, len(data), "cells or bytes")
        leaves = [file.schema.column(place) for place in range(meta.num_columns)]
        delta_encoded = {chunk.path_in_schema for chunk in chunks if "DELTA_BYTE_ARRAY" in chunk.encodings}
        flat = {leaf.path for leaf in leaves if leaf.max_repetition_level == 0} & set(file.schema_arrow.names)
        texts = {leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"} & flat - delta_encoded
        fixed = {
            leaf.path
            for leaf in leaves
            if leaf.physical_type != "BYTE_ARRAY" and leaf.length <= limits.PARQUET_FIXED_BYTES
        }
        measured = set(file.schema_arrow.names) <= (texts | fixed) & flat
        rows = limits.PARQUET_BATCH_ROWS if measured else limits.PARQUET_BATCH_ROWS_UNMEASURED
        # As dictionaries, so that a text which is in the file once and in a million rows is held once.
        # In nanoseconds, times of Spark and Impala outside 1677 to 2262 would be other ones.
        options = {"read_dictionary": sorted(texts), "coerce_int96_timestamp_unit": "us"}
        return pq.ParquetFile(pa.BufferReader(data), metadata=meta, **options), rows, len(data)


class ParquetChunk(Chunk):
    """A record batch of the stored columns."""

    def __init__(self, form: Parquet, first: int, batch: Any) -> None:
        self.form, self.first, self.length, self.batch = form, first, batch.num_rows, batch

    def as_csv(self, nothing: bytes) -> Written:
        """The rows as texts of Arrow."""
        import pyarrow as pa

        try:
            return written(self.batch.columns, self.form.searched)
        except (pa.ArrowException, UnicodeDecodeError):
            return Written(nothing * self.length)

    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """These rows."""
        import pyarrow as pa

        places = list(places)
        batch = self.batch.take(pa.array(places, pa.int64()))
        hidden = [column is None for column in self.form.layout.columns]
        nested = iter([_is_nested(column.type) for column in batch.columns])
        is_nested = [not gone and next(nested) for gone in hidden]
        for place, values in zip(places, zip(*map(_texts, batch.columns), strict=True), strict=True):
            stored = iter(values)
            fields = [None if gone else next(stored) for gone in hidden]
            within = [kind and value is not None for kind, value in zip(is_nested, fields, strict=True)]
            broken: list[str] = [Code.RECORD_ENCODING] if any(isinstance(value, NotText) for value in values) else []
            yield Found(place, 1, self.form.cleaner.record(self.first + place, fields, broken, None, nested=within))


class NotText(str):
    """Bytes that are not UTF-8, with those that are not as escapes."""


def _is_nested(kind: Any) -> bool:
    """Whether an Arrow type has lists or structures, also below an extension type or in a dictionary."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _is_nested(kind.storage_type)
    return _is_nested(kind.value_type) if pa.types.is_dictionary(kind) else bool(pa.types.is_nested(kind))


def _byte_lengths(values: Any) -> Any:
    """Bytes of each text of an Arrow array as a NumPy array; of lists and structures their mean, of numbers 0."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(values.type):
        return np.full(len(values), values.nbytes // max(len(values), 1))
    texts = values.dictionary if isinstance(values, pa.DictionaryArray) else values
    kinds = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
    if not any(is_kind(texts.type) for is_kind in (*kinds, pa.types.is_fixed_size_binary)):
        return np.zeros(len(values), np.int64)
    lengths = pc.binary_length(texts)
    if texts is not values:
        lengths = lengths.take(values.indices)
    return lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _texts(values: Any) -> list[str | None]:
    """An Arrow array as the texts that Arrow writes to CSV."""
    import pyarrow as pa

    try:
        texts: list[str | None] = values.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):
        texts = [_bytes_text(value) if isinstance(value, bytes) else cell_text(value) for value in values.to_pylist()]
    return texts


def _bytes_text(value: bytes) -> str | None:
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        text = value.decode(errors="backslashreplace")
        return NotText(in_another_encoding(value, text) or text)
