"""sqlfluff, with its arguments. It compiles all macros again for each model, a third of its time: here once."""

from __future__ import annotations

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
sys.exit(cli())
