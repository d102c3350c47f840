"""Draws and columns that every part of the simulator makes its data from; each depends on nothing but its arguments."""

from __future__ import annotations

import zlib
from datetime import date
from typing import Any

import numpy as np
import polars as pl

EPOCH = date(1970, 1, 1)


def rng(seed: int, *labels: str | int | date) -> np.random.Generator:
    """A generator that depends on nothing but the seed and the labels."""
    words = [
        label.toordinal()
        if isinstance(label, date)
        else label
        if isinstance(label, int)
        else zlib.crc32(label.encode())
        for label in labels
    ]
    return np.random.default_rng([seed, *words])


def number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH).days


def dates(numbers: np.ndarray) -> pl.Series:
    """Days since 1970-01-01 as dates."""
    return pl.Series(np.asarray(numbers, dtype=np.int32)).cast(pl.Date)


def pick(generator: np.random.Generator, choices: Any, size: int, shares: Any = None) -> pl.Series:
    """`size` draws from `choices` as a series."""
    weights = None if shares is None else np.asarray(shares, dtype=float) / np.sum(shares)
    return take(choices, generator.choice(len(choices), size, p=weights))


def take(choices: Any, index: np.ndarray) -> pl.Series:
    """The elements of `choices` at each position of `index`."""
    return pl.Series(list(choices)).gather(pl.Series(np.asarray(index, dtype=np.uint32)))


def digits(numbers: np.ndarray | pl.Series, width: int) -> pl.Series:
    """Numbers as text with leading zeros."""
    return pl.Series(numbers).cast(pl.Int64).cast(pl.String).str.zfill(width)


def joined(*parts: Any) -> pl.Series:
    """Texts concatenated element by element; a plain string is the same in every element."""
    frame = pl.select(pl.concat_str([pl.lit(part) for part in parts]).alias("text"))
    return frame["text"]


def only(mask: Any, values: pl.Series, otherwise: Any = None) -> pl.Series:
    """Values where the mask holds, `otherwise` (null, a constant or a series) elsewhere."""
    chosen = pl.when(pl.lit(pl.Series(mask))).then(pl.lit(values)).otherwise(pl.lit(otherwise))
    return pl.select(chosen.alias("chosen"))["chosen"]
