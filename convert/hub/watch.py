"""A download under watch: it is ended when it stalls, but may otherwise be as slow as it likes.

The client's own timeouts apply between two bytes, and it retries after each; so a server that sends a header byte by
byte, or never goes on, would hold it up for minutes or for ever. Here the client works in a thread of its own. Its
event hooks and its trace tell what it is waiting for; if that takes too long, its socket is shut down.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from convert.disk.underway import tell
from convert.hub.answers import judge, no_connection, stated_tag, timed_out, unavailable
from convert.identity import NamedVariant

T = TypeVar("T")

LIMIT = 20.0
"""Seconds that all responses before the file may take together, and that a body may stall. The client's own timeouts,
10 s by default, let it reconnect once in that time."""
PROGRESS = 1024
"""Bytes a download must receive within that time to count as making progress."""
POLL, GRACE = 0.1, 3.0
"""Seconds between two checks of a download, and for it to end and clean up once its socket is shut down."""
RANGE = re.compile(r"bytes (?P<start>\d{1,15})-\d{1,15}/(?P<total>\d{1,15}|\*)")
NO_ANSWER = ("connect_tcp.failed", "start_tls.failed", "receive_response_headers.failed")
"""Trace events after which the client would wait and try again. Source: httpcore, docs/extensions.md, "trace"."""
HOOKS = threading.Lock()
"""Lock held while a client's hooks are replaced, so that two downloads do not undo each other's changes."""


class Ended(Exception):
    """Raised in the client's thread to end work that nobody waits for any more."""


class Watch:
    """One download: what is waited for and since when, how far it is, and what the hub stated of the file."""

    def __init__(self, variant: NamedVariant, answer_limit: float = LIMIT, stall_limit: float = LIMIT) -> None:
        self.answer_limit, self.stall_limit = answer_limit, stall_limit
        self.tag: str | None = None
        self._variant = variant
        self._thread: threading.Thread | None = None
        self._over = False
        self._stream: Any = None
        self._host = "the hub"
        self._asked: float | None = None  # when the response waited for was requested, less earlier waits
        self._waited = 0.0
        self._body: Any = None
        self._start, self._reached, self._mark = 0, 0, 0
        self._total: int | None = None
        self._moved = math.nan

    @contextlib.contextmanager
    def over(self, client: Any) -> Iterator[None]:
        """Run the body with a client's requests watched and responses judged, in the thread that `run` starts alone."""
        ours = {"request": self._before, "response": self._after}
        with HOOKS:
            client.event_hooks = {kind: [*hooks, ours[kind]] for kind, hooks in client.event_hooks.items()}
        try:
            yield
        finally:
            with HOOKS:
                client.event_hooks = {
                    kind: [hook for hook in hooks if hook != ours[kind]] for kind, hooks in client.event_hooks.items()
                }

    def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread of its own; return what it returns.

        Raises:
            Unavailable: Nothing arrived for too long. The thread is ended or, if it cannot be, left to itself.
        """
        outcome: Future[T] = Future()
        arguments = (_settle, outcome, work)
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=arguments, daemon=True)
        self._thread.start()
        try:
            while self._thread.is_alive():
                if reason := self._overdue():
                    raise unavailable(self._variant, *reason)
                self._thread.join(POLL)
                if self._body is not None:
                    tell(f"downloading {self._variant.repo_id}", self._reached, self._total)
        finally:
            self._end()
        return outcome.result()

    def progress(self) -> str | None:
        """Return, in words, how much of the file has arrived; None before its download began."""
        self._look()
        if math.isnan(self._moved):
            return None
        return f"after {self._reached:,} of {'unknown' if self._total is None else format(self._total, ',')} bytes"

    def _before(self, request: Any) -> None:
        if threading.current_thread() is not self._thread:
            return
        if self._over:
            raise Ended
        self._host = request.url.netloc.decode("ascii", "replace")
        self._asked = time.monotonic() - self._waited
        request.extensions = {**request.extensions, "trace": self._trace}

    def _after(self, response: Any) -> None:
        if threading.current_thread() is not self._thread:
            return
        self._stream = response.extensions.get("network_stream", self._stream)
        judge(response, self._variant)
        if response.request.method == "GET" and response.is_success and self.tag is not None:
            self._begin(response)
        self.tag = stated_tag(response) or self.tag

    def _begin(self, response: Any) -> None:
        span = RANGE.fullmatch(response.headers.get("Content-Range", ""))
        length = span["total"] if span else response.headers.get("Content-Length", "")
        self._total = int(length) if length.isdecimal() and len(length) < 16 else self._total
        self._start = int(span["start"]) if span else 0
        if math.isnan(self._moved):
            self._moved = time.monotonic()
        self._idle()
        self._body = response

    def _trace(self, event: str, details: dict[str, Any]) -> None:
        if hasattr(made := details.get("return_value"), "get_extra_info"):
            self._stream = made
        if event.endswith("response_closed.complete"):
            self._look()
            self._idle()
        if not event.endswith(".failed"):
            return
        if self._over:
            raise Ended
        if event.endswith(NO_ANSWER):
            raise unavailable(self._variant, *self._without_answer(details["exception"]))

    def _without_answer(self, error: BaseException) -> tuple[str, str]:
        if progress := self.progress():
            return f"the download {'stalled' if timed_out(error) else 'broke off'} {progress}", "Run again."
        return self._silence() if timed_out(error) else no_connection(error, self._host)

    def _idle(self) -> None:
        """Note that no response is waited for, so that waiting for another process's lock on the cache has no limit."""
        if self._asked is not None:
            self._waited = time.monotonic() - self._asked
        self._asked = self._body = None

    def _look(self) -> None:
        body = self._body
        if body is not None:
            self._reached = max(self._reached, self._start + body.num_bytes_downloaded)
        if self._reached >= self._mark + PROGRESS:
            self._mark, self._moved = self._reached, time.monotonic()

    def _overdue(self) -> tuple[str, str] | None:
        self._look()
        now, asked = time.monotonic(), self._asked
        if self._body is not None and now - self._moved > self.stall_limit:
            return f"the download stalled {self.progress()}", "Run again."
        return self._silence() if asked is not None and now - asked > self.answer_limit else None

    def _silence(self) -> tuple[str, str]:
        waited = self.answer_limit if self._asked is None else time.monotonic() - self._asked
        return f"{self._host} did not answer within {max(1, round(waited))} s", "Try again later."

    def _end(self) -> None:
        self._over = True
        if self._thread is None or not self._thread.is_alive():
            return
        with contextlib.suppress(OSError, AttributeError):
            # the plain socket's method: that of TLS would take the connection apart under the thread that reads it
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)
        self._thread.join(GRACE)


def _settle(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001  # whatever it is, `run` raises it again
        outcome.set_exception(error)
