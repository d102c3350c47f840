"""The steps of a build, in order, each with the Python that has to run before dbt does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from sampan.database import Connection
from sampan.identity import resolve
from sampan.marts import dbt, outcomes, shop_effects, suppression


@dataclass(frozen=True)
class Step:
    """A step of the build.

    `prepare` takes the builder's connection and the step's claim (`build_no/step/token`). `prepare_as_known` does the same
    for marts as known on a date: it takes the connection, the schema with the look-back's own tables and its build_no.
    """

    name: str
    prepare: Callable[[Connection, str], object] | None = None
    prepare_as_known: Callable[[Connection, str, int], object] | None = None

    @property
    def is_family(self) -> bool:
        """Whether it is a family of marts, which may run beside others: they read the same tables, and write their own."""
        return self.name.startswith(f"{dbt.MARTS}__")

    @property
    def may_wait(self) -> bool:
        """Whether a release may have its marts from the release before: a family's, and those made of several families."""
        return self.is_family or self.name == dbt.SUMMARY


def _shop_effects(family: str, *studies: str) -> Step:
    return Step(
        f"{dbt.MARTS}__{family}",
        lambda _, claim: [shop_effects.run(study, claim) for study in studies],
        lambda _, schema, build_no: [shop_effects.run(study, schema=schema, as_known=build_no) for study in studies],
    )


PREPARED = (
    # A look-back needs no linkage of its own: the history of the links is kept.
    Step("identity", lambda _, claim: resolve.run(claim)),
    Step(
        f"{dbt.MARTS}__funding",
        lambda _, claim: outcomes.run(claim),
        lambda _, schema, build_no: outcomes.run(schema=schema, as_known=build_no),
    ),
    _shop_effects("festival", "festival", "live_stream"),
    _shop_effects("marks", "mark"),
    _shop_effects("programmes", "gallery"),
    Step(f"{dbt.MARTS}__published", lambda connection, _: suppression.run(connection), suppression.run),
)


@cache
def all_steps() -> tuple[Step, ...]:
    """The steps in order."""
    prepared = {step.name: step for step in PREPARED}
    return tuple(prepared.get(name, Step(name)) for name in dbt.step_names())


def names() -> tuple[str, ...]:
    """Names of the steps in order."""
    return tuple(step.name for step in all_steps())
