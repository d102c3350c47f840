"""HTTP for the APIs of partners: answers of bounded size, from the address that was asked and from no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Self

import httpx

from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.reading.compression import DECOMPRESS
from sampan.reading.shown import shown

MAX_REDIRECTS = 5
# Seconds without a byte. How long a slow answer may take in all is bounded by who asks.
SILENCE = 30
# Content encodings by the name of their decompression.
ENCODINGS = {"": "none", "identity": "none", "gzip": "gzip", "x-gzip": "gzip"}


class Client:
    """GET requests to an API. A context manager that keeps cookies and connections.

    All answers together may have `max_bytes`, packed or unpacked.
    """

    def __init__(self, max_bytes: int) -> None:
        # httpx would unpack whole pieces of any size, and encodings of encodings.
        self._http = httpx.Client(timeout=SILENCE, headers={"User-Agent": "sampan", "Accept-Encoding": "gzip"})
        self._max_bytes = max_bytes
        self._packed = self._unpacked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, url: str) -> httpx.Response:
        """The answer, with its whole body unpacked, after redirects within the same scheme, host and port.

        Raises TransientFailure when the network or the server fails, PermanentFailure for an answer that is too large
        or leads elsewhere.
        """
        request = self._http.build_request("GET", url)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with closing(self._http.send(request, stream=True)) as response:
                    if response.next_request is None:
                        return self._read(response, url)
                    target = response.next_request
                if _origin(target.url) != _origin(request.url):
                    other = shown(f"{target.url.scheme}://{target.url.raw_host.decode('ascii', 'replace')}")
                    message = f"the response redirects to another address, {other}"
                    raise PermanentFailure(Problem(Code.API_REDIRECTED, message, url))
                request = target
        except httpx.HTTPError as error:
            raise TransientFailure(f"{url}: {type(error).__name__}: {shown(str(error))}") from None
        message = f"the response redirects more than {MAX_REDIRECTS} times"
        raise PermanentFailure(Problem(Code.API_REDIRECTED, message, url))

    def _read(self, response: httpx.Response, url: str) -> httpx.Response:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            message = f"the response has content encoding {shown(encoding)}, but only gzip was accepted"
            raise PermanentFailure(Problem(Code.API_SHAPE, message, url))

        def pieces(size: int) -> Iterator[bytes]:
            for piece in response.iter_raw(size):
                self._packed += len(piece)
                self._check_size(url)
                yield piece

        blocks = []
        try:
            for block in DECOMPRESS[ENCODINGS[encoding]](pieces):
                self._unpacked += len(block)
                self._check_size(url)
                blocks.append(block)
        except (EOFError, ValueError):
            raise TransientFailure(
                f"{url}: the response is not whole: its {encoding} stream is cut off or corrupt"
            ) from None
        wait = response.headers.get("Retry-After", "")
        kept = {"Retry-After": wait} if wait.isascii() else {}
        return httpx.Response(response.status_code, headers=kept, content=b"".join(blocks))

    def _check_size(self, url: str) -> None:
        if max(self._packed, self._unpacked) > self._max_bytes:
            message = f"the API returns more than the contract's maxBytes, {self._max_bytes:,}"
            raise PermanentFailure(Problem(Code.API_TOO_LARGE, message, url))


def _origin(url: httpx.URL) -> tuple[str, bytes, int]:
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
