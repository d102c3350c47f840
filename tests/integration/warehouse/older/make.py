"""Make the dump of a warehouse of an earlier version: by its own code, on servers of its own, with a small synthetic world.

`python -m tests.integration.warehouse.older.make <commit> <version>` writes `<version>.sql.xz` beside this file. It needs the
history of the repository; the test that upgrades the dump does not. The environment is today's: the code of a version whose
libraries are no longer there cannot be run, but its dump stays.
"""

from __future__ import annotations

import argparse
import lzma
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.local.postgres import binaries

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
# Of no one: the world is synthetic. The upgraded warehouse has to have the same.
PSEUDONYM_KEY = "5a" * 32

# Runs with the modules of version 0.1.0. Another version may call them by other names.
IN_THAT_VERSION = """
import sys
from datetime import date
from pathlib import Path

import psycopg
from sampan import consent
from sampan.settings import settings

from infra.local.postgres import EmbeddedPostgres
from infra.local.s3 import EmbeddedS3, make_buckets
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch, gate, land, load, publish
from tests.factory import encode, rows
from tests.integration import world

folder, pseudonym_key = Path(sys.argv[1]), sys.argv[2]
world.SMES, world.VOLUME, world.FIRST, world.LAST = 40, 0.05, date(2026, 6, 1), date(2026, 7, 31)
world.ASKED = ("2026-06", "2026-07")
passwords = {f"SAMPAN_{role}_PASSWORD": "of-the-older" for role in ("LOADER", "BUILDER", "BI")}
postgres = EmbeddedPostgres(folder / "data", durable=False)
postgres.start()
try:
    with (
        EmbeddedS3(folder / "s3") as s3,
        world.installation(
            postgres.dsn(), s3, folder / "state", passwords | {"SAMPAN_PSEUDONYM_KEY": pseudonym_key}, "older"
        ) as environment,
    ):
        made = world.make_world(environment)
        with made.installed():
            ((revoked,),) = psycopg.connect(settings().dsn("loader")).execute(
                "select min(consent_id) from ops.consent where not is_revoked"
            ).fetchall()
            consent.revoke(revoked, "the owner rang", "steward")
            # Not in the release yet, and with a rejected row.
            feed, day = "customs_declarations", date(2026, 8, 3)
            given = rows(feed, 40, day)
            given[0]["value_hkd"] = "-1"
            contract = get_contract(feed)
            key = f"{contract.drop_prefix}{day}/news.{contract.source.extension}"
            s3.client().put_object(Bucket="drop", Key=key, Body=encode(contract, given))
            for step in (fetch, land, load, gate, publish):
                print(step.__name__, step.run(feed))
    with psycopg.connect(postgres.dsn("older", "postgres"), autocommit=True) as connection:
        query = "select rolname from pg_roles where rolname !~ '^pg_' and rolname <> 'postgres' order by 1"
        roles = connection.execute(query).fetchall()
        (folder / "roles").write_text("\\n".join(name for (name,) in roles))
    (folder / "dsn").write_text(postgres.dsn("older", "postgres"))
    print("made", flush=True)
    sys.stdin.readline()
finally:
    postgres.stop()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("version")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sampan-older-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        code = folder / "code"
        code.mkdir()
        archive = subprocess.run(["git", "archive", arguments.commit], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", str(code)], input=archive.stdout, check=True)
        environment = os.environ | {
            "PYTHONPATH": f"{code / 'plugins'}:{code}",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }
        made = subprocess.Popen(
            [sys.executable, "-c", IN_THAT_VERSION, str(folder), PSEUDONYM_KEY],
            cwd=code, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with made:
            assert made.stdout is not None
            if not any(line.strip() == "made" for line in made.stdout):
                raise SystemExit("that version did not make its warehouse; see above")
            dump = subprocess.run(
                [str(binaries() / "pg_dump"), "--dbname", (folder / "dsn").read_text()],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            roles = (folder / "roles").read_text().split()
            made.communicate("\n")
    # Who loads the dump makes what these roles own.
    head = "".join(
        f"do $$ begin if to_regrole('{role}') is null then"
        f" create role {role}; grant {role} to current_user; end if; end $$;\n"
        for role in roles
    )
    # Lines that only psql understands.
    body = "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))
    target = HERE / f"{arguments.version}.sql.xz"
    target.write_bytes(lzma.compress((head + body + "\n").encode(), preset=9))
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
