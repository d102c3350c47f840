"""sqlfluff, with its arguments, in half of its time.

It compiles all macros again for each model: here once. It looks for garbage in what a model's tree is made of: here seldom.
"""

from __future__ import annotations

import gc
import sys
from functools import wraps
from types import CodeType
from typing import Any

from jinja2 import Environment
from sqlfluff.cli.commands import cli

compile_template = Environment.compile
compiled: dict[tuple[Any, ...], CodeType] = {}


@wraps(compile_template)
def compile_once(environment: Environment, source: Any, *arguments: Any, **options: Any) -> Any:
    """What jinja compiles, kept by its source and all that a template's code depends on."""
    if not isinstance(source, str) or arguments or options:
        return compile_template(environment, source, *arguments, **options)
    known = (source, type(environment), environment.autoescape, *sorted(environment.extensions))
    if known not in compiled:
        compiled[known] = compile_template(environment, source)
    return compiled[known]


Environment.compile = compile_once
gc.set_threshold(1_000_000, 50, 50)
sys.exit(cli())
