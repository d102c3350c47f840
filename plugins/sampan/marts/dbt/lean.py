"""What dbt 1.11 does for each node beside the node's work, taken away: half of the time of a build of a small day.

`install` overrides seven seams of dbt, once per process. What a build reads and writes stays the same. See ADR 0013.
"""

from __future__ import annotations

import select
import threading
from functools import cache
from multiprocessing.dummy import DummyProcess
from typing import Any

# What dbt fires while it handles the error of a node, when `sys.exc_info` still has the database's error.
NODE_ERRORS = ("CatchableExceptionOnRun", "GenericExceptionOnRun")


@cache
def install() -> None:
    """Override dbt in this process."""
    from dbt_common.behavior_flags import BehaviorFlagRendered

    # To name the module of an adapter's flag in a warning, dbt reads the source of the whole stack, for each flag: in a
    # process with many modules that is half of a step's time.
    BehaviorFlagRendered._default_source = staticmethod(lambda: "dbt.adapters.postgres")  # type: ignore[method-assign]
    _keep_connections()
    _fire_no_unheard_events()
    _link_a_project_once()
    _make_contexts_of_macros_once()
    _learn_to_read_dates_once()
    _look_for_plugins_once()


def _keep_connections() -> None:
    """Let a worker of dbt keep its connection from one node to the next. Each step has workers, and so sessions, of its own.

    Between two nodes a session is set back to what it was when it began: without temporary tables, locks and settings.
    """
    from dbt.adapters.contracts.connection import Connection, ConnectionState
    from dbt.adapters.postgres.connections import PostgresConnectionManager

    close_after_node, name_for_node = PostgresConnectionManager.release, PostgresConnectionManager.set_connection_name

    def release(self: PostgresConnectionManager) -> None:
        kept = self.get_if_exists()
        is_worker = isinstance(threading.current_thread(), DummyProcess)
        if not (is_worker and kept and kept.state == ConnectionState.OPEN and _is_set_back(kept)):
            close_after_node(self)

    def set_connection_name(self: PostgresConnectionManager, name: str | None = None) -> Connection:
        kept = self.get_if_exists()
        # An idle session says nothing: it is at its end when there is something to read.
        if kept and kept.state == ConnectionState.OPEN and select.select([kept.handle], [], [], 0)[0]:
            self.close(kept)
        return name_for_node(self, name)

    PostgresConnectionManager.release = release  # type: ignore[method-assign, assignment]
    PostgresConnectionManager.set_connection_name = set_connection_name  # type: ignore[method-assign, assignment]


def _is_set_back(connection: Any) -> bool:
    """End what a node left open and set its session back. False when the session is broken."""
    import psycopg2  # type: ignore[import-untyped]

    handle = connection.handle
    try:
        handle.rollback()
        connection.transaction_open = False
        handle.autocommit = True
        with handle.cursor() as cursor:
            cursor.execute("discard all")
        handle.autocommit = False
    except psycopg2.Error:
        return False
    return True


def _fire_no_unheard_events() -> None:
    """Make no message of an event of level debug, which neither a log nor a callback of ours takes."""
    from dbt_common.events.base_types import BaseEvent, DebugLevel, EventLevel
    from dbt_common.events.event_manager import EventManager

    make, fire = BaseEvent.__init__, EventManager.fire_event

    def make_if_heard(self: BaseEvent, *args: Any, **values: Any) -> None:
        if type(self).__name__ in NODE_ERRORS:
            make(self, *args, **values)

    def fire_if_heard(
        self: EventManager, e: BaseEvent, level: EventLevel | None = None, node: Any = None, *args: Any, **options: Any
    ) -> None:
        if not isinstance(e, DebugLevel) or type(e).__name__ in NODE_ERRORS:
            fire(self, e, level, node, *args, **options)

    DebugLevel.__init__ = make_if_heard  # type: ignore[method-assign]
    EventManager.fire_event = fire_if_heard  # type: ignore[method-assign]


def _link_a_project_once() -> None:
    """Keep the graph of a parsed project with it, for all steps that run on it."""
    from dbt.compilation import Compiler
    from dbt.contracts.graph.manifest import Manifest
    from dbt.graph.graph import Graph

    link = Compiler.compile

    def compile_once(self: Compiler, manifest: Manifest, *args: Any, **options: Any) -> Graph:
        # Makes the step's folders.
        self.initialize()  # type: ignore[no-untyped-call]
        kept: Graph | None = getattr(manifest, "linked", None)
        if kept is None:
            kept = link(self, manifest, *args, **options)
            manifest.linked = kept  # type: ignore[attr-defined]
        return kept

    Compiler.compile = compile_once  # type: ignore[method-assign]


def _make_contexts_of_macros_once() -> None:
    """Let the macros that the adapter calls by name share a context: of 700 names each, for a thread and a step.

    They do not read who called them: in such a context dbt gives a macro no node.
    """
    from dbt.cli import requires

    make = requires.generate_runtime_macro_context  # type: ignore[attr-defined]
    mine = threading.local()

    def context(macro: Any, config: Any, manifest: Any, package_name: str | None = None) -> dict[str, Any]:
        of = (config, manifest, package_name)
        kept = getattr(mine, "kept", None)
        if kept is None or any(one is not other for one, other in zip(kept[0], of, strict=True)):
            mine.kept = kept = (of, make(macro, config, manifest, package_name))
        made: dict[str, Any] = kept[1]
        return made

    requires.generate_runtime_macro_context = context  # type: ignore[attr-defined]


def _learn_to_read_dates_once() -> None:
    """Share what agate reads dates with. It makes 40 expressions for each of a table's types, and a table of each answer."""
    import parsedatetime  # type: ignore[import-untyped]

    parsedatetime.Constants = cache(parsedatetime.Constants)


def _look_for_plugins_once() -> None:
    """Look through all installed packages for plugins of dbt in the first step only."""
    from dbt.plugins.manager import PluginManager

    find = cache(PluginManager.get_prefixed_modules)
    PluginManager.get_prefixed_modules = staticmethod(find)  # type: ignore[method-assign]
