"""The drop and landing buckets: addresses, listings, writes, and reads that are checked against a hash."""

from __future__ import annotations

import hashlib
import io
import re
import ssl
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote

import httpx
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from sampan.errors import TransientFailure
from sampan.settings import settings

MANY = 100_000
# Bytes of an object that is held in memory while it is read.
SMALL = 1 << 20
# Share of a volume from which on it is vacuumed: any.
GARBAGE = "0.000000001"
# Seconds until SeaweedFS has to have given up what was deleted.
PATIENCE = 60.0


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// address."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class ObjectRefused(TransientFailure):
    """The object store answers and does not give what it was asked for: another object it may give. `code` is S3's."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code

    def __reduce__(self) -> tuple[type[ObjectRefused], tuple[str, str]]:
        """Errors of a child process are pickled; by default its code would be missing."""
        return type(self), (str(self), self.code)


@contextmanager
def s3_errors() -> Iterator[None]:
    """Turn every failure of the object store inside the block into a TransientFailure: ObjectRefused when S3 says no.

    Its text names no object: the partner chose the name, which may be personal data.
    """
    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        message = re.sub(r"""(https?://[^/\s"']+)[^\s"']*""", r"\1", str(error))
        status = error.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(error, ClientError) else 0
        # But not when it took too long, or when there were too many requests: that is not about this object.
        if isinstance(error, ClientError) and 400 <= status < 500 and status not in (408, 429):
            raise ObjectRefused(f"object store: {message}", error.response["Error"]["Code"]) from None
        raise TransientFailure(f"object store: {message}") from None


def list_objects(prefix: str) -> Iterator[dict[str, Any]]:
    """Objects of the drop bucket under a prefix."""
    with s3_errors():
        pages = settings().s3().get_paginator("list_objects_v2").paginate(Bucket=settings().drop_bucket, Prefix=prefix)
        for page in pages:
            yield from page.get("Contents", ())


def list_beside(prefix: str, folders: Collection[str]) -> Iterator[dict[str, Any]]:
    """Objects of the drop bucket under a prefix, but for those in these folders of it, which are not listed."""
    with s3_errors():
        pages = settings().s3().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=settings().drop_bucket, Prefix=prefix, Delimiter="/"):
            yield from page.get("Contents", ())
            for folder in page.get("CommonPrefixes", ()):
                if folder["Prefix"] not in folders:
                    yield from list_objects(folder["Prefix"])


def head_if_present(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """What HEAD says of an object; None when there is none. Raises ClientError for anything else."""
    try:
        head: dict[str, Any] = s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
            raise
        return None
    return head


def put_if_absent(s3: Any, key: str, body: bytes | Callable[[], IO[bytes]], size: int, sha: str, uri: str) -> None:
    """Upload bytes to the landing bucket unless `key` exists with this size: keys contain the hash of their content.

    Few bytes are given as they are and take one request; many by a function that opens them.
    """
    bucket = settings().landing_bucket
    with s3_errors():
        head = head_if_present(s3, bucket, key)
        if head and head["ContentLength"] == size:
            return
        metadata = {"sha256": sha, "source": re.sub(r"[^\x20-\x7e]", "?", uri)[-1000:]}
        if isinstance(body, bytes):
            s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)
            return
        stream = body()
        try:
            s3.upload_fileobj(stream, bucket, key, ExtraArgs={"Metadata": metadata})
        finally:
            stream.close()


def open_verified(landing_uri: str) -> Callable[[], IO[bytes]]:
    """A function that opens a landed delivery. Reading it to the end raises ObjectRefused if its hash is wrong."""
    return _opener(landing_uri, landing_uri.rsplit("/", 1)[-1].split(".", 1)[0])


def verify(landing_uri: str) -> None:
    """Raise ObjectRefused when the object store does not give a landed delivery as it was landed."""
    stream = open_verified(landing_uri)()
    try:
        while stream.read(1 << 20):
            pass
    finally:
        stream.close()


def open_unverified(uri: str) -> Callable[[], IO[bytes]]:
    """A function that opens any object. What is read is not compared with a hash."""
    return _opener(uri, None)


def _opener(uri: str, sha: str | None) -> Callable[[], IO[bytes]]:
    bucket, key = parse_s3_uri(uri)
    small: bytes | None = None

    def opened() -> IO[bytes]:
        # Some formats read a delivery twice.
        nonlocal small
        if small is not None:
            return io.BytesIO(small)
        with s3_errors():
            found = settings().s3().get_object(Bucket=bucket, Key=key)
        stream: IO[bytes] = _Checked(found["Body"], sha, uri)  # type: ignore[assignment]
        if found["ContentLength"] > SMALL:
            return stream
        with closing(stream):
            content = b"".join(iter(lambda: stream.read(SMALL), b""))
        small = content
        return io.BytesIO(content)

    return opened


def seaweedfs() -> SeaweedFS | None:
    """The ports of SeaweedFS behind S3, if the settings name them."""
    values = settings().values
    names = ("SAMPAN_SEAWEEDFS_MASTER", "SAMPAN_SEAWEEDFS_FILER", "SAMPAN_SEAWEEDFS_CERTIFICATE")
    master, filer, certificate = (values.get(name) for name in names)
    return SeaweedFS(master, filer, certificate) if master and filer and certificate else None


@dataclass(frozen=True)
class SeaweedFS:
    """What S3 does not tell of SeaweedFS: where content is, and that it is still served after its deletion.

    A deleted piece stays in its volume, readable by its file id, until the volume is vacuumed. `master` and `filer` are
    addresses, `certificate` is a PEM file that they show and ask for, with its key.
    """

    master: str
    filer: str
    certificate: str

    def pieces(self, bucket: str, key: str) -> list[str]:
        """File ids of the content of every version of an object."""
        with self._client() as client:
            current = client.get(f"{self.filer}/buckets/{bucket}/{quote(key)}", params={"metadata": "true"})
            entries = [current.json()] if current.status_code == 200 else []
            entries += self._entries(client, f"{bucket}/{quote(key)}.versions/")
        return _file_ids(entries)

    def pieces_of_upload(self, bucket: str, upload: str) -> list[str]:
        """File ids of the parts of an upload that is not completed."""
        with self._client() as client:
            return _file_ids(self._entries(client, f"{bucket}/.uploads/{quote(upload)}/"))

    def _entries(self, client: httpx.Client, folder: str) -> list[dict[str, Any]]:
        listing = client.get(
            f"{self.filer}/buckets/{folder}", params={"limit": MANY}, headers={"Accept": "application/json"}
        )
        return (listing.json().get("Entries") or []) if listing.status_code == 200 else []

    def forget(self, pieces: list[str]) -> list[str]:
        """Vacuum the volumes until none of the pieces is served any more. Returns those that still are after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        with self._client() as client:
            while left := [piece for piece in pieces if self._is_served(client, piece)]:
                if time.monotonic() > deadline:
                    return left
                self._vacuum(client)
                # The filer deletes pieces about a second after their object.
                time.sleep(0.3)
        return []

    def _vacuum(self, client: httpx.Client) -> None:
        client.get(f"{self.master}/vol/vacuum", params={"garbageThreshold": GARBAGE}).raise_for_status()

    def _is_served(self, client: httpx.Client, piece: str) -> bool:
        found = client.get(f"{self.filer}/", params={"proxyChunkId": piece, "readDeleted": "true"})
        if found.status_code not in (200, 404):
            found.raise_for_status()
        return found.status_code == 200

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        context = ssl.create_default_context(cafile=self.certificate)
        context.load_cert_chain(self.certificate)
        try:
            with httpx.Client(verify=context, timeout=120, trust_env=False) as client:
                yield client
        except httpx.HTTPError as error:
            raise TransientFailure(f"object store: {error}") from error


def _file_ids(entries: list[dict[str, Any]]) -> list[str]:
    return [chunk["file_id"] for entry in entries for chunk in entry.get("chunks") or ()]


class _Checked:
    """A binary stream that compares the SHA-256 of what was read with the one that it should have, if there is one."""

    def __init__(self, body: Any, sha: str | None, uri: str) -> None:
        self.body, self.sha, self.uri, self.digest = body, sha, uri, hashlib.sha256()

    def read(self, size: int) -> bytes:
        with s3_errors():
            block: bytes = self.body.read(size)
        self.digest.update(block)
        if not block and self.sha not in (None, self.digest.hexdigest()):
            raise ObjectRefused(f"{self.uri}: the content read does not match its SHA-256", "ContentChanged")
        return block

    def close(self) -> None:
        self.body.close()
