"""A TCP proxy between the platform and a server, which a test makes slow, deaf, or cuts; for HTTP it can answer itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

# Answers a request by its first line, or None: the server answers it.
Answer = Callable[[str], bytes | None]
PIECE = 1 << 14


def refusal(status: int, code: str = "") -> bytes:
    """An error of S3 as it answers it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode() if code else b""
    head = f"HTTP/1.1 {status} Synthetic\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@dataclass
class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on to `target`, as its attributes say at each moment.

    `budget`: bytes until every connection is cut; None does not limit it. `delay`: seconds before each piece of 16 KB.
    `is_deaf`: connections stay open, and nothing is passed on. `answer`: for HTTP, what is said in the server's place; each
    request then has a connection of its own. `passed` counts bytes, `asked` has the first lines of requests.
    """

    target: int
    budget: int | None = None
    delay: float = 0.0
    is_deaf: bool = False
    answer: Answer | None = None
    port: int = 0
    passed: int = 0
    asked: list[str] = field(default_factory=list)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Reset every connection."""

        def reset() -> None:
            for writer in self._open:
                writer.transport.abort()

        self._loop.call_soon_threadsafe(reset)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        there = None
        with suppress(OSError, asyncio.IncompleteReadError):
            head = b""
            if self.answer is not None:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.split(b"\r\n", 1)[0].decode())
                if (said := self.answer(self.asked[-1])) is not None:
                    writer.write(said)
                    await writer.drain()
                    writer.close()
                    return
                head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            back, there = await asyncio.open_connection("127.0.0.1", self.target)
            self._open.add(there)
            there.write(head)
            await asyncio.gather(self._pass(reader, there), self._pass(back, writer))
        for end in (writer, there):
            if end is not None:
                end.transport.abort()
                self._open.discard(end)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE):
            while self.is_deaf:
                await asyncio.sleep(0.05)
            await asyncio.sleep(self.delay)
            self.passed += len(piece)
            if self.budget is not None and self.passed > self.budget:
                for end in self._open:
                    end.transport.abort()
                return
            writer.write(piece)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
