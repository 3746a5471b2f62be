"""Where do the processes of versions come from? They are forked from one that has imported TensorFlow for all of them.

So a version's process is there in milliseconds, and shares the memory of TensorFlow's code with the others. That one
has no threads of the server, has computed nothing, and ends with the server and its last version.
"""

import multiprocessing
import socket
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_END_S = 10.0  # for a process that has been told to end; then it is killed


def prepare() -> None:
    """Begins to import TensorFlow in the process that the others are forked from; returns at once."""
    _CONTEXT.set_forkserver_preload(["serving.server.isolation_seed"])
    forkserver.ensure_running()


def start(control: socket.socket, directory: Path, tags: Sequence[str], session: bytes | None) -> BaseProcess:
    """The process of a version; arguments are those of `isolation_child.compute`.

    Raises:
      OSError, EOFError: there are no more processes to be had.
    """
    from serving.server.isolation_child import compute

    process = _CONTEXT.Process(target=compute, args=(control, directory, list(tags), session), daemon=True)
    process.start()
    return process


def how_it_ended(process: BaseProcess) -> str:
    """Waits for the end of a process that is about to end, and tells how it did."""
    process.join(_END_S)
    if process.exitcode is None:
        process.kill()
        process.join()
    code = process.exitcode
    assert code is not None, "it has been waited for"
    process.close()
    return f"signal {-code}" if code < 0 else f"exit code {code}"
