"""How does a call wait for another process? On a connection of its own: for an answer, its deadline, or its end.

A connection carries one call at a time, so that a call costs no switch between threads on either side.
"""

import os
import select
import socket
import threading
from typing import Any

from serving.server import isolation_messages as messages
from serving.server.batching_cancellation import when_not_wanted

_LONGEST_WAIT_S = 7 * 24 * 3600.0


class Link:
    """A connection to a version's process.

    Raises:
      OSError: the process has gone.
    """

    def __init__(self, control: socket.socket) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(control, [b"+"], [theirs.fileno()])
        self._reader = self._connection.makefile("rb")
        self._given_up = os.eventfd(0, os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._connection, select.POLLIN)
        self._poll.register(self._given_up, select.POLLIN)

    def ask(self, request: Any, timeout_s: float | None) -> messages.Outcome | None:
        """Sends a request and waits for its outcome; None: the time is over, or the call that it is for has ended.

        After None the outcome is still to come: `rest` waits for it.

        Raises:
          OSError, EOFError: the process has gone.
        """
        waiting = _Waiting(self._given_up)
        when_not_wanted(waiting.give_up)
        try:
            messages.send(self._connection, request)
            wait_ms = None if timeout_s is None else 1000 * min(timeout_s, _LONGEST_WAIT_S)
            events = self._poll.poll(wait_ms)
        finally:
            waiting.end()
        return self.rest() if any(descriptor != self._given_up for descriptor, _ in events) else None

    def rest(self) -> messages.Outcome:
        """The outcome of the request that has been sent, however long it takes.

        Raises:
          OSError, EOFError: the process has gone.
        """
        found: messages.Outcome = messages.receive(self._reader)
        return found

    def close(self) -> None:
        """Gives its descriptors back; nobody waits any more."""
        self._reader.close()
        self._connection.close()
        os.close(self._given_up)


class _Waiting:
    """One wait: whoever gives it up wakes it, but never a later one on the same link."""

    def __init__(self, given_up: int) -> None:
        self._given_up = given_up
        self._lock = threading.Lock()
        self._is_over = self._is_woken = False

    def give_up(self) -> None:
        with self._lock:
            if not self._is_over:
                os.eventfd_write(self._given_up, 1)
                self._is_woken = True

    def end(self) -> None:
        with self._lock:
            self._is_over = True
        if self._is_woken:
            os.eventfd_read(self._given_up)
