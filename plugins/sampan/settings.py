"""Where things are and how to reach them: the environment first, then the state folder's `env` file."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sampan.errors import Code, Problem, SettingsFailure

PACKAGE = Path(__file__).resolve().parent
# What the library reads besides itself: contracts, models, SQL. A wheel brings a copy of them, a checkout is them.
PACKAGED = PACKAGE / "_home"
HOME = Path(os.environ.get("SAMPAN_HOME") or (PACKAGED if PACKAGED.exists() else PACKAGE.parents[1])).resolve()
# What the state folder's `env` file says of one S3 service; it is not true of another.
OF_THE_STORE = ("AWS_", "SAMPAN_S3_PARTNER_KEYS", "SAMPAN_SEAWEEDFS_")
ROLES = {"loader": "sampan_loader", "builder": "sampan_builder", "bi": "bi_reader"}
# Where sessions look for names without a schema: nowhere that a weaker role may write. See ADR 0025.
SEARCH_PATH = "pg_catalog,pg_temp"
# Until either end of a connection knows that the other one is gone without a word: minutes, instead of hours in which the
# client waits and the server keeps its locks. A value of SAMPAN_WAREHOUSE_DSN goes first. See ADR 0014.
CLIENT_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 300_000,
}
SERVER_PATIENCE = {
    "tcp_keepalives_idle": "60s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "6",
    "tcp_user_timeout": "300s",
    # A statement of a client that was killed goes on otherwise, with its locks.
    "client_connection_check_interval": "5s",
}


@dataclass(frozen=True)
class Settings:
    """One installation. `values` holds the merged KEY=VALUE pairs; secrets never leave it in a repr."""

    home: Path
    state: Path
    values: dict[str, str] = field(repr=False)

    def get(self, key: str, default: str | None = None) -> str:
        """One value. Raises SettingsFailure when it is not set and has no default."""
        value = self.values.get(key, default)
        if value is None:
            file = self.state / "env"
            message = f"{key} is not set; run `make up`, which writes it, or set it in the environment"
            raise SettingsFailure(Problem(Code.SETTINGS_MISSING, message, str(file)))
        return value

    def dsn(self, role: str = "loader") -> str:
        """Connection string of a role: admin (only for `sampan init` and `sampan roles`), loader, builder or bi."""
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        parts: dict[str, Any] = CLIENT_PATIENCE | dict(conninfo_to_dict(self.get("SAMPAN_WAREHOUSE_DSN")))
        if role != "admin":
            parts |= {"user": ROLES[role], "password": self.get(f"SAMPAN_{role.upper()}_PASSWORD")}
        # From the first statement on, and in every library that is given this string.
        patience = " ".join(f"-c {name}={value}" for name, value in SERVER_PATIENCE.items())
        parts["options"] = f"{patience} {parts.get('options', '')} -c search_path={SEARCH_PATH}"
        return make_conninfo(**parts)

    @property
    def reports(self) -> Path:
        """Folder of the pages of releases, one folder each; the desk shows them."""
        return self.state / "reports"

    @property
    def drop_bucket(self) -> str:
        """Bucket that partners deliver into."""
        return self.get("SAMPAN_DROP_BUCKET", "drop")

    @property
    def landing_bucket(self) -> str:
        """Bucket that keeps every delivery unchanged."""
        return self.get("SAMPAN_LANDING_BUCKET", "landing")

    @property
    def report_bucket(self) -> str:
        """Bucket that keeps the pages of each release."""
        return self.get("SAMPAN_REPORT_BUCKET", "reports")

    @property
    def lake_bucket(self) -> str:
        """Bucket that has raw as Parquet."""
        return self.get("SAMPAN_LAKE_BUCKET", "lake")

    @property
    def lake_is_on(self) -> bool:
        """Whether published batches are written to the lake. Raises SettingsFailure when it is neither on nor off."""
        value = self.get("SAMPAN_LAKE", "on")
        if value not in ("on", "off"):
            raise SettingsFailure(Problem(Code.SETTINGS_LAKE, f"SAMPAN_LAKE is {value!r}, expected on or off"))
        return value == "on"

    @property
    def synthetic(self) -> bool:
        """Whether the data comes from the simulator, which pages then say."""
        return self.get("SAMPAN_SYNTHETIC", "no") == "yes"

    @property
    def release_days(self) -> int:
        """Days after which a release that is not live is deleted, and no family of it is carried any more."""
        return int(self.get("SAMPAN_RELEASE_DAYS", "90"))

    @property
    def pseudonym_key(self) -> bytes:
        """Key of the pseudonyms (HMAC-SHA-256). Raises SettingsFailure when it is not hex of at least 32 bytes."""
        return self._key("SAMPAN_PSEUDONYM_KEY")

    def _key(self, name: str) -> bytes:
        try:
            key = bytes.fromhex(self.get(name))
        except ValueError:
            key = b""
        if len(key) < 32:
            message = f"{name} is not hex of at least 32 bytes (64 digits); make one with `openssl rand -hex 32`"
            raise SettingsFailure(Problem(Code.SETTINGS_PSEUDONYM_KEY, message))
        return key

    @property
    def pseudonym_key_version(self) -> int:
        """Version of the key, which is part of every pseudonym."""
        return int(self.get("SAMPAN_PSEUDONYM_KEY_VERSION", "1"))

    @property
    def pseudonym_keys(self) -> dict[int, bytes]:
        """The current key and the older ones that are still held (SAMPAN_PSEUDONYM_KEY_<version>), by version.

        Raises SettingsFailure as `pseudonym_key` does.
        """
        names = {name: re.fullmatch(r"SAMPAN_PSEUDONYM_KEY_([0-9]{1,9})", name) for name in self.values}
        older = {int(match[1]): self._key(name) for name, match in sorted(names.items()) if match}
        current = self.pseudonym_key_version
        return {version: key for version, key in older.items() if version < current} | {current: self.pseudonym_key}

    @property
    def oldest_pseudonym_key(self) -> tuple[bytes, int] | None:
        """The oldest key before the current one that is still held, with its version. Raises as `pseudonym_keys` does."""
        keys = self.pseudonym_keys
        version = min(keys)
        return (keys[version], version) if version < self.pseudonym_key_version else None

    def s3(self, partner: str | None = None) -> Any:
        """A boto3 S3 client for the configured endpoint (AWS itself when none is set), with the keys of AWS_ACCESS_KEY_ID.

        With a partner's own keys if it is named and SAMPAN_S3_PARTNER_KEYS (a file: {partner: [access key, secret key]})
        has them.
        """
        endpoint, region = self.values.get("SAMPAN_S3_ENDPOINT"), self.get("AWS_DEFAULT_REGION", "us-east-1")
        keys = [self.values.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
        file = self.values.get("SAMPAN_S3_PARTNER_KEYS")
        if partner and file:
            keys = json.loads(Path(file).read_text()).get(partner, keys)
        return _s3_client(endpoint, *keys, region, os.getpid())


@cache
def _s3_client(endpoint: str | None, key: str | None, secret: str | None, region: str, process: int) -> Any:
    """One client per process: making one takes longer than moving a small delivery, and forks must not share one."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name=region,
        # SeaweedFS rejects boto3's default checksums on multipart uploads; content is checked by SHA-256 here.
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "max_attempts": 5},
            s3={"addressing_style": "path"},
        ),
    )


def read_yaml(path: Path) -> Any:
    """A file of YAML. By the parser in C: reading what a command needs takes the one in Python half a second."""
    import yaml

    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def read_env_file(path: Path) -> dict[str, str]:
    """KEY=VALUE lines of a file; blank lines and lines that start with # are skipped."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#") and "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()` after changing the environment."""
    state = Path(os.environ.get("SAMPAN_STATE") or (Path.home() if HOME == PACKAGED else HOME) / ".sampan").resolve()
    stored = read_env_file(state / "env")
    values = stored | dict(os.environ)
    of_the_store = {key: value for key, value in stored.items() if key.startswith(OF_THE_STORE)}
    if "SAMPAN_S3_ENDPOINT" not in os.environ:
        # Keys belong to an endpoint: a user's own AWS keys in the shell do not fit the stored endpoint.
        values |= of_the_store
    elif values["SAMPAN_S3_ENDPOINT"] != stored.get("SAMPAN_S3_ENDPOINT"):
        values = {key: value for key, value in values.items() if key in os.environ or key not in of_the_store}
    return Settings(HOME, state, values)
