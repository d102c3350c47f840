"""Answers to the questions of docs/questions.md, computed from what was published and not from what the build made of it.

A module per family of marts. `question_<n>(world)` gives the rows that the query of section n has to return, in its order:
tuples of the values in the order of its columns. Numbers may differ by rounding.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any


def answer_to(number: int) -> Callable[[Any], list[tuple[Any, ...]]]:
    """The function that answers a question. Raises LookupError when there is none, or more than one."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    found = [vars(module)[name] for module in modules if (name := f"question_{number}") in vars(module)]
    if len(found) != 1:
        raise LookupError(f"question {number} is answered by {len(found)} functions in {__name__}")
    return found[0]
