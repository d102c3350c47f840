"""Who is signed in. Sessions live in the memory of this process only: a restart, or a copy of its files, opens nothing."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from starlette.exceptions import HTTPException

IDLE_SECONDS, LONGEST_SECONDS = 30 * 60, 8 * 3600
# Failed sign-ins in WINDOW_SECONDS after which a login, or an address, has to wait.
MOST_FAILED, MOST_FAILED_OF_ADDRESS, WINDOW_SECONDS = 5, 30, 15 * 60
# Logins that got in from an address before: what others fail there keeps them out no more. The oldest are forgotten.
MOST_KNOWN = 1000
# One login signs out no one else: past its own number it signs out itself.
MOST_SESSIONS, MOST_SESSIONS_OF_LOGIN = 1000, 20
# Uploads that are read at the same time. Each may take the memory that `uploads.BOUNDS` says.
MOST_READ = 4


@dataclass
class Session:
    """One person who is signed in. `drafts`: corrections by feed that were uploaded and not sent yet."""

    login: str
    password: str = field(repr=False)
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    begun: float = 0.0
    used: float = 0.0
    drafts: dict[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)

    def is_own(self, token: object) -> bool:
        """Whether a form has this session's token."""
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self.csrf.encode())


class Sessions:
    """Sessions by the SHA-256 of the cookie that their browser keeps: 32 random bytes, which say nothing and sign nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._sessions: dict[bytes, Session] = {}

    def begin(self, login: str, password: str) -> str:
        """Begin a session; returns its cookie."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._drop_ended(now)
            own = [key for key, session in self._sessions.items() if session.login == login]
            is_full = len(own) >= MOST_SESSIONS_OF_LOGIN
            if is_full or len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[min(own if is_full else self._sessions, key=lambda key: self._sessions[key].used)]
            self._sessions[_key(cookie)] = Session(login, password, begun=now, used=now)
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, which lasts on from now; None when there is none, or it has ended."""
        now = self._clock()
        with self._lock:
            self._drop_ended(now)
            found = self._sessions.get(_key(cookie or ""))
            if found is not None:
                found.used = now
            return found

    def end(self, cookie: str | None) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_key(cookie or ""), None)

    def _drop_ended(self, now: float) -> None:
        ended = [
            key
            for key, session in self._sessions.items()
            if now - session.used > IDLE_SECONDS or now - session.begun > LONGEST_SECONDS
        ]
        for key in ended:
            del self._sessions[key]


def _key(cookie: str) -> bytes:
    return sha256(cookie.encode("utf-8", "surrogatepass")).digest()


class FailedSignIns:
    """Counts failed sign-ins, so that passwords cannot be tried by the thousand."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._times: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        # In the order in which they got in last.
        self._known: dict[tuple[str, str], None] = {}

    def may_try(self, login: str, address: str) -> bool:
        """Whether this login from this address may try now. It counts at once: of many at a time, no more get a try.

        A login that got in from there before has its own tries, however many others of the address have failed.
        """
        with self._lock:
            for key in [key for key in self._times if not self._count(key)]:
                del self._times[key]
            is_kept_out = self._is_full(address) and (login, address) not in self._known
            if is_kept_out or self._count((login, address)) >= MOST_FAILED:
                return False
            for key in {(login, address), ("", address)}:
                self._times[key].append(self._clock())
            return True

    def is_full(self, address: str) -> bool:
        """Whether so many tries of an address failed that only a login that got in from there before may try."""
        with self._lock:
            return self._is_full(address)

    def take_back(self, login: str, address: str) -> None:
        """Count the last try no more: it got in, or could not be judged."""
        with self._lock:
            for key in {(login, address), ("", address)}:
                if self._count(key):
                    self._times[key].pop()

    def forget(self, login: str, address: str) -> None:
        """Begin again for a login that got in."""
        self.take_back(login, address)
        with self._lock:
            self._times.pop((login, address), None)
            self._known.pop((login, address), None)
            self._known[login, address] = None
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]

    def _is_full(self, address: str) -> bool:
        return self._count(("", address)) >= MOST_FAILED_OF_ADDRESS

    def _count(self, key: tuple[str, str]) -> int:
        times = self._times.get(key, deque())
        while times and self._clock() - times[0] > WINDOW_SECONDS:
            times.popleft()
        return len(times)


class Turns:
    """Who has an upload read now: few at a time, and each login one."""

    def __init__(self, most: int = MOST_READ) -> None:
        self._most, self._lock = most, threading.Lock()
        self._logins: set[str] = set()

    @contextmanager
    def of(self, login: str) -> Iterator[None]:
        """A turn, until the block ends. Raises HTTPException (429) at once when there is none."""
        with self._lock:
            if login in self._logins or len(self._logins) >= self._most:
                raise HTTPException(429)
            self._logins.add(login)
        try:
            yield
        finally:
            with self._lock:
                self._logins.discard(login)


# Of uploads, and of corrections that are looked at.
TURNS = Turns()
