"""Who still wants an answer? Ties the work that a thread does to the call it is done for, so that both end together.

The transport says for whom a thread works; whatever makes the call wait asks. Nothing between the two has to know.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Call(Protocol):
    """As much of grpc.ServicerContext as is needed here."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has `callback` called when the call ends, for whatever reason; False: it has ended."""


class Wanted:
    """The call of a stream, which works many times: it keeps the newest callback alone, where gRPC keeps them all.

    A callback holds the tensors of its part, so those of a long stream would pile up.
    """

    def __init__(self) -> None:
        self.is_ended = False
        self._act: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has `callback` called when the stream ends before the next one is added; False: it has ended."""
        with self._lock:
            self._act = callback
            return not self.is_ended

    def end(self) -> None:
        """Nobody wants the rest."""
        with self._lock:
            self.is_ended = True
            act = self._act
        act()


_served = threading.local()


@contextmanager
def on_behalf_of(call: Call) -> Iterator[None]:
    """What this thread does inside is done for `call`."""
    _served.call = call
    try:
        yield
    finally:
        _served.call = None


def when_not_wanted(act: Callable[[], None]) -> None:
    """Calls `act` when the call that this thread works for ends, or at once if it has; never if there is none."""
    call: Call | None = getattr(_served, "call", None)
    if call is not None and not call.add_callback(act):
        act()
