"""The formats of deliveries: one module each. A new one is a module here and its class in FORMATS."""

from __future__ import annotations

from sampan.reading.formats.base import Format
from sampan.reading.formats.csv import Csv
from sampan.reading.formats.fixed_width import FixedWidth
from sampan.reading.formats.json_lines import JsonLines
from sampan.reading.formats.parquet import Parquet
from sampan.reading.formats.xlsx import Xlsx

# By the name that contracts use; a test holds it against the names that contracts accept.
FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in (Csv, JsonLines, Parquet, Xlsx, FixedWidth)}
