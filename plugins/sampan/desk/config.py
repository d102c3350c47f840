"""What the desks have to know: no password, no key, nothing of the `env` file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sampan.errors import Code, Problem, SettingsFailure
from sampan.settings import CLIENT_PATIENCE, SEARCH_PATH

# Of `make up`: other hosts are named where a proxy with TLS stands before the desks.
LOCAL = "127.0.0.1,localhost"


@dataclass(frozen=True)
class DeskConfig:
    """`warehouse`: where the database is (host, port, dbname), without a login. `answers`: folder of the pages of releases.

    `hosts`: names that the desks answer to. `secure`: whether browsers reach them by HTTPS, so that cookies may ask for it.
    """

    warehouse: Mapping[str, str]
    hosts: tuple[str, ...] = tuple(LOCAL.split(","))
    secure: bool = False
    synthetic: bool = False
    answers: Path | None = None
    drop_bucket: str = "drop"

    def dsn(self, login: str, password: str) -> str:
        """Connection string of a person's login."""
        parts: dict[str, Any] = {**CLIENT_PATIENCE, **self.warehouse, "user": login, "password": password}
        # Twenty seconds are long for a page; what takes longer belongs into a BI tool.
        options = (
            f"-c search_path={SEARCH_PATH} -c statement_timeout=20s -c timezone=Asia/Hong_Kong -c datestyle=ISO,YMD"
        )
        return make_conninfo(**{**parts, "options": options, "application_name": "sampan_desk"})


def from_environment(environ: Mapping[str, str] = os.environ) -> DeskConfig:
    """The configuration by SAMPAN_DESK_DSN, SAMPAN_DESK_HOSTS, SAMPAN_DESK_HTTPS, SAMPAN_DESK_ANSWERS and others.

    Raises SettingsFailure when the place of the database is missing, or brings a login: the desks have none.
    """
    found = {key: str(value) for key, value in conninfo_to_dict(environ.get("SAMPAN_DESK_DSN", "")).items()}
    if not found or {"user", "password"} & found.keys():
        message = (
            "SAMPAN_DESK_DSN says where the warehouse is, as `host=... port=... dbname=...`, without user and password"
        )
        raise SettingsFailure(Problem(Code.SETTINGS_MISSING, message))
    answers = environ.get("SAMPAN_DESK_ANSWERS")
    return DeskConfig(
        found,
        tuple(environ.get("SAMPAN_DESK_HOSTS", LOCAL).split(",")),
        environ.get("SAMPAN_DESK_HTTPS") == "yes",
        environ.get("SAMPAN_SYNTHETIC") == "yes",
        Path(answers) if answers else None,
        environ.get("SAMPAN_DROP_BUCKET", "drop"),
    )
