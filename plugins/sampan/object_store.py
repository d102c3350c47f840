"""The drop and landing buckets: addresses, listings, writes, and reads that are checked against a hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from sampan.errors import TransientFailure
from sampan.settings import settings


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// address."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextmanager
def s3_errors() -> Iterator[None]:
    """Turn every failure of the object store inside the block into a TransientFailure.

    Its text names no object: the partner chose the name, which may be personal data.
    """
    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        message = re.sub(r"""(https?://[^/\s"']+)[^\s"']*""", r"\1", str(error))
        raise TransientFailure(f"object store: {message}") from None


def list_objects(prefix: str) -> Iterator[dict[str, Any]]:
    """Objects of the drop bucket under a prefix."""
    with s3_errors():
        pages = settings().s3().get_paginator("list_objects_v2").paginate(Bucket=settings().drop_bucket, Prefix=prefix)
        for page in pages:
            yield from page.get("Contents", ())


def put_if_absent(s3: Any, key: str, body: Callable[[], IO[bytes]], size: int, sha: str, uri: str) -> None:
    """Upload bytes to the landing bucket unless `key` exists with this size: keys contain the hash of their content."""
    bucket = settings().landing_bucket
    with s3_errors():
        try:
            head = s3.head_object(Bucket=bucket, Key=key)
            if head["ContentLength"] == size:
                return
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                raise
        metadata = {"sha256": sha, "source": re.sub(r"[^\x20-\x7e]", "?", uri)[-1000:]}
        stream = body()
        try:
            s3.upload_fileobj(stream, bucket, key, ExtraArgs={"Metadata": metadata})
        finally:
            stream.close()


def open_verified(landing_uri: str) -> Callable[[], IO[bytes]]:
    """A function that opens a landed delivery. Reading it to the end raises TransientFailure if its hash is wrong."""
    bucket, key = parse_s3_uri(landing_uri)
    sha = key.rsplit("/", 1)[-1].split(".", 1)[0]

    def opened() -> IO[bytes]:
        with s3_errors():
            return _Checked(settings().s3().get_object(Bucket=bucket, Key=key)["Body"], sha, landing_uri)  # type: ignore[return-value]

    return opened


class _Checked:
    """A binary stream that compares the SHA-256 of what was read with the one in the landing address."""

    def __init__(self, body: Any, sha: str, uri: str) -> None:
        self.body, self.sha, self.uri, self.digest = body, sha, uri, hashlib.sha256()

    def read(self, size: int) -> bytes:
        with s3_errors():
            block: bytes = self.body.read(size)
        self.digest.update(block)
        if not block and self.digest.hexdigest() != self.sha:
            raise TransientFailure(f"{self.uri}: the content read does not match its SHA-256")
        return block

    def close(self) -> None:
        self.body.close()
