"""How does a version compute in a process of its own? The server asks it; what befalls it does not befall the server.

TensorFlow keeps a SavedModel's memory when a session is closed; a process that ends gives all of it back. The cut is at
the smallest interface that there is: named tensors in, named tensors out. Checks, batching and metrics stay here.
"""

import atexit
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.server import isolation_messages as messages
from serving.server import isolation_processes
from serving.server.isolation_link import Link
from serving.server.status import Code, StatusError, timed_out

_GRACE_S = 0.25  # beyond the deadline: the session of the other process ends a run by itself, mostly
_TELL_S = 5.0  # for the system to tell how a process ended
_MOST_LEFT_RUNS = 64  # that go on although nobody waits for them; beyond that a call waits to the end


class ProcessModel:
    """A SavedModel in a process of its own; the interface is that of `engine.Model`.

    Args:
      directory: of the version.
      tags: of the meta graph.
      session: threads and share of the GPU's memory of the process.
      on_end: called when the process has ended although nobody has closed it.

    Raises:
      StatusError: what `SessionModel` raises; UNAVAILABLE, the process ended before the version was loaded.
    """

    def __init__(
        self,
        directory: Path,
        tags: Sequence[str],
        session: config_pb2.ConfigProto | None = None,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_end = on_end
        self._is_closed = False
        self._has_ended = threading.Event()
        self._how = ""  # it has ended
        self._left_runs = threading.Semaphore(_MOST_LEFT_RUNS)
        self._idle: list[Link] = []
        self._lock = threading.Lock()  # around the idle links
        self._control, theirs = socket.socketpair()
        config = None if session is None else session.SerializeToString()
        try:
            with theirs:
                self._process = isolation_processes.start(theirs, directory, tags, config)
        except (OSError, EOFError) as error:
            self._control.close()
            raise StatusError(Code.UNAVAILABLE, f"No process can be started for {directory}: {error!r}") from error
        self._reader = self._control.makefile("rb")
        try:
            signatures = messages.value(messages.receive(self._reader))
        except (OSError, EOFError) as error:
            how = self._end()
            raise StatusError(Code.UNAVAILABLE, f"{directory}: its process ended ({how}) while it loaded.") from error
        except Exception:
            self._end()
            raise
        self._signatures = {
            name: meta_graph_pb2.SignatureDef.FromString(content) for name, content in signatures.items()
        }
        atexit.register(self.close)  # multiprocessing waits for its processes at the end, and this one for our word
        threading.Thread(target=self._watch, name="version-process", daemon=True).start()

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """All signatures by name, as they stand in the SavedModel."""
        return self._signatures

    def run(
        self, feeds: Sequence[tuple[str, np.ndarray]], fetches: Sequence[str], timeout_s: float | None = None
    ) -> list[Any]:
        """Has the tensors named in `fetches` computed.

        A call whose client has gone, or whose deadline has passed, returns even if the process computes on.

        Raises:
          StatusError: what `SessionModel.run` raises; UNAVAILABLE, the process has ended.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s + _GRACE_S
        link = None
        try:
            link = self._take()
            found = link.ask((feeds, fetches, timeout_s), None if timeout_s is None else timeout_s + _GRACE_S)
        except (OSError, EOFError) as error:
            if link is not None:
                link.close()
            raise self._unavailable(error) from error
        if found is None:
            self._leave(link)
            if deadline is not None and time.monotonic() >= deadline:
                raise timed_out()
            raise StatusError(Code.CANCELLED, "The call ended before its answer was computed.")
        self._give_back(link)
        values: list[Any] = messages.value(found)
        return values

    def why_ended(self) -> StatusError | None:
        """Why the process has ended although nobody has closed it; None: it has not."""
        if not self._has_ended.is_set():
            return None
        return StatusError(
            Code.UNAVAILABLE,
            f"The process that computes this version has ended ({self._how}); it is started again. Ask again later.",
        )

    def close(self) -> None:
        """Ends the process, and returns when its memory has been given back."""
        atexit.unregister(self.close)
        with self._lock:
            self._is_closed = True
        with contextlib.suppress(OSError):  # it has ended by itself
            self._control.shutdown(socket.SHUT_RDWR)
        self._has_ended.wait()
        for link in self._idle:
            link.close()
        self._reader.close()
        self._control.close()

    def _take(self) -> Link:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Link(self._control)

    def _give_back(self, link: Link) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(link)
                return
        link.close()

    def _leave(self, link: Link) -> None:
        """Has a thread wait for a run that nobody wants and nobody can stop; waits here if many threads do."""
        if self._left_runs.acquire(blocking=False):
            threading.Thread(target=self._wait_for_left, args=(link,), name="left-run", daemon=True).start()
            return
        self._wait_for_rest(link)

    def _wait_for_left(self, link: Link) -> None:
        try:
            self._wait_for_rest(link)
        finally:
            self._left_runs.release()

    def _wait_for_rest(self, link: Link) -> None:
        try:
            link.rest()
        except (OSError, EOFError):
            link.close()
            return
        self._give_back(link)

    def _unavailable(self, error: Exception) -> StatusError:
        self._has_ended.wait(_TELL_S)
        reason = f"The process that computes this version cannot be asked: {error!r}"
        return self.why_ended() or StatusError(Code.UNAVAILABLE, reason)

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            self._reader.read(1)  # nothing comes but the end
        self._how = isolation_processes.how_it_ended(self._process)
        self._has_ended.set()
        if not self._is_closed:
            self._on_end()

    def _end(self) -> str:
        """Ends a process that has not loaded its version, and tells how it ended."""
        self._reader.close()
        self._control.close()
        return isolation_processes.how_it_ended(self._process)
