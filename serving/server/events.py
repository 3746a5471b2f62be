"""How does a stream go over HTTP? As server-sent events, pulled one at a time."""

import threading
from collections.abc import Generator

HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(data: str, name: str = "") -> bytes:
    """One event; the lines of `data` become one, as its JSON does not change by it."""
    line = " ".join(part.strip() for part in data.split("\n"))
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {line}\n\n".encode("utf-8", "surrogateescape")


class Events:
    """Events of one stream: a thread may compute the next one, another may close them."""

    def __init__(self, events: Generator[bytes]) -> None:
        self._events = events
        self._lock = threading.Lock()

    def next(self) -> bytes | None:
        """The next event, once it is computed; None: there are no more."""
        with self._lock:
            return next(self._events, None)

    def close(self) -> None:
        """Computes no more; returns when the event that is being computed is."""
        with self._lock:
            self._events.close()
