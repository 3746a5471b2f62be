"""How do tests run functions in processes of their own, without importing TensorFlow in each of them anew?

The processes are forked from one server process that has imported TensorFlow and the library, and computed nothing:
each can still choose its devices, threads and place in a cluster.
"""

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

PRELOADED = ["kerasllm.data", "kerasllm.losses", "kerasllm.models", "kerasllm.training", "numpy", "pytest"]
WAIT_S = 240.0  # for a process of a test on a machine that is busy with other things

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


class Process:
    """A function under way in a process of its own; the arguments and the result have to be picklable."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._answers, answers = _context.Pipe(duplex=False)
        self._process = _context.Process(target=_run, args=(answers, function, arguments), daemon=True)
        self._process.start()
        answers.close()

    def result(self) -> Any:
        """What the function returned.

        Raises:
          AssertionError: it raised something, was killed, or did not end in time.
        """
        kind, value = self.outcome()
        assert kind == "returned", value
        return value

    def outcome(self) -> tuple[str, Any]:
        """("returned", value), ("raised", the traceback's text) or ("died", the exit code: minus the signal)."""
        assert self._answers.poll(WAIT_S), f"the process does not end in {WAIT_S} s"
        try:
            outcome: tuple[str, Any] = self._answers.recv()
        except EOFError:
            self._process.join(WAIT_S)
            outcome = ("died", self._process.exitcode)
        self._process.join(WAIT_S)
        return outcome

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def free_addresses(count: int) -> list[str]:
    """Addresses on this machine that nobody listens at now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def _run(answers: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    try:
        outcome = ("returned", function(*arguments))
    except BaseException:  # the test that waits has to see whatever it is
        outcome = ("raised", traceback.format_exc())
    answers.send(outcome)
    answers.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what TensorFlow does at the end of a process whose peers are gone may take minutes
