"""What does the process of a version do? It loads the version, and computes for the server that has started it."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import config_pb2

from serving.server import isolation_messages as messages
from serving.server.session_model import SessionModel

_OOM_SCORE = 500  # of 1000: when memory runs out, the system ends this process and not the server


class Child:
    """The version's model, once it is loaded. The server opens connections only then."""

    def __init__(self) -> None:
        self._model: SessionModel | None = None

    def load(self, control: socket.socket, directory: Path, tags: Sequence[str], session: bytes | None) -> None:
        """Loads the version and tells its signatures, or why it cannot be loaded."""
        found = messages.outcome(self._signatures, directory, tags, session)
        with contextlib.suppress(OSError):  # the server has gone; whoever reads from `control` ends the process
            messages.send(control, found)

    def answer(self, connection: socket.socket) -> None:
        """Computes what comes over a connection, one call after another, until it is closed."""
        assert self._model is not None, "connections come after the version is loaded"
        with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError, EOFError):
            while True:
                feeds, fetches, timeout_s = messages.receive(reader)
                messages.send(connection, messages.outcome(self._run, feeds, fetches, timeout_s))

    def _signatures(self, directory: Path, tags: Sequence[str], session: bytes | None) -> dict[str, bytes]:
        config = None if session is None else config_pb2.ConfigProto.FromString(session)
        self._model = SessionModel(directory, tags, config)
        return {name: signature.SerializeToString() for name, signature in self._model.signatures.items()}

    def _run(self, feeds: Any, fetches: Any, timeout_s: float | None) -> list[Any]:
        assert self._model is not None, "connections come after the version is loaded"
        return self._model.run(feeds, fetches, timeout_s)


def compute(control: socket.socket, directory: Path, tags: Sequence[str], session: bytes | None) -> None:
    """Loads a version and serves the connections that come over `control`; when that is closed, the process ends.

    It is closed with the server's process too, however that ends.

    Args:
      control: takes connections from the server, and gives it the outcome of the load.
      directory: of the version.
      tags: of the meta graph.
      session: a serialized ConfigProto.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # which a whole group gets: the server still drains
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # where the system does not let us, nothing else depends on it
        Path("/proc/self/comm").write_bytes(f"{directory.parent.name}/{directory.name}".encode()[:15])  # for ps and top
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    child = Child()
    threading.Thread(target=child.load, args=(control, directory, tags, session), daemon=True).start()
    try:
        while True:
            content, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not content:
                return
            connection = socket.socket(fileno=descriptors[0])
            threading.Thread(target=child.answer, args=(connection,), daemon=True).start()
    finally:
        os._exit(0)  # at once, whatever still computes
