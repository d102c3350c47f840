"""dbt with a session of Spark that stays from one command to the next: to start one takes longer than most steps of a build.

Runs in .venv-spark. Takes a line of JSON from standard input for each command, with variables of its environment, and answers
with one on standard output; ends when the input does.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Session:
    """Parses the project once."""

    def __init__(self) -> None:
        self._manifest: Any = None

    def answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Run the SQL or the command of dbt that is asked for; whether it succeeded, and why not."""
        os.environ.update(ask["environment"])
        try:
            return self._sql(ask["statements"]) if "statements" in ask else self._dbt(ask["command"], ask["options"])
        except Exception as error:  # noqa: BLE001
            return {"is_done": False, "said": f"{type(error).__name__}: {error}"}

    def _sql(self, statements: list[str]) -> dict[str, Any]:
        from pyspark.sql import SparkSession

        # The one that dbt has.
        spark = SparkSession.builder.enableHiveSupport().getOrCreate()
        for statement in statements:
            spark.sql(statement)
        return {"is_done": True, "said": ""}

    def _dbt(self, command: list[str], options: list[str]) -> dict[str, Any]:
        from dbt.cli.main import dbtRunner

        if self._manifest is None or command == ["parse"]:
            parsed = dbtRunner().invoke(["parse", *options])
            if not parsed.success:
                return {"is_done": False, "said": str(parsed.exception)}
            self._manifest = parsed.result
        if command == ["parse"]:
            return {"is_done": True, "said": ""}
        done = dbtRunner(manifest=self._manifest).invoke([*command, *options])
        return {"is_done": done.success, "said": str(done.exception or "")}

    def close(self) -> None:
        """End Spark and wait until its Java has: it holds the metastore."""
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        if gateway := SparkContext._gateway:
            SparkSession.builder.getOrCreate().stop()
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait()


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What dbt, Spark and Java print goes to the log: it would be taken for an answer.
    os.dup2(2, 1)
    session = Session()
    for line in sys.stdin:
        answers.write(json.dumps(session.answer(json.loads(line))) + "\n")
        answers.flush()
    session.close()


if __name__ == "__main__":
    main()
