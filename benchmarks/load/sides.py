"""Who answers, and how well? A server's process with a generator that asks it, and what the calls of an order tell."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from kerasllm.errors import ServingError

PROJECT = Path(__file__).parents[2]
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass(frozen=True)
class Calls:
    """How the calls of an order ended.

    Attributes:
      begins: [N] seconds of the machine's monotonic clock.
      ends: [N].
      codes: [N] "OK" or why not.
      cpu_seconds: of the process that asked.
    """

    begins: np.ndarray
    ends: np.ndarray
    codes: np.ndarray
    cpu_seconds: float

    @property
    def is_ok(self) -> np.ndarray:
        """[N] whether they succeeded."""
        return self.codes == "OK"

    @property
    def rate(self) -> float:
        """Successes a second, from the first call to the last answer."""
        return float(self.is_ok.sum() / (self.ends.max() - self.begins.min()))

    def milliseconds(self, percentile: float, chosen: np.ndarray | None = None) -> float:
        """Within which so many percent of the successes were answered, of all or of the chosen ones [N]."""
        return float(np.percentile(self.latencies_ms(chosen), percentile))

    def latencies_ms(self, chosen: np.ndarray | None = None) -> list[float]:
        """Of the successes, of all or of the chosen ones [N]."""
        kept = self.is_ok if chosen is None else self.is_ok & chosen
        latencies: list[float] = ((self.ends[kept] - self.begins[kept]) * 1000).tolist()
        return latencies

    def between(self, start: float, stop: float) -> np.ndarray:
        """[N] which of them ran at some time between the two."""
        return (self.ends > start) & (self.begins < stop)

    def failures(self) -> dict[str, int]:
        """How many failed, by code."""
        codes, counts = np.unique(self.codes[~self.is_ok], return_counts=True)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True))


class Generator:
    """A process of benchmarks.load.generator; leave the block, and it ends.

    Args:
      protocol: "grpc" or "http".
      address: HOST:PORT.
      path: gRPC's method or HTTP's path.
      requests: bodies, sent by turns.
    """

    def __init__(self, protocol: str, address: str, path: str, requests: Sequence[bytes]) -> None:
        command = [sys.executable, "-m", "benchmarks.load.generator"]
        self._process = start(command)
        listed = [base64.b64encode(request).decode() for request in requests]
        self._tell({"protocol": protocol, "address": address, "path": path, "requests": listed})

    def ask(self, **order: float | None) -> Calls:
        """Carries out an order, as the generator's docstring says."""
        self._tell(order)
        return self._outcome()

    def begin(self, **order: float | None) -> None:
        """Gives an order without `seconds`, which lasts until `end`."""
        self._tell(order)

    def end(self) -> Calls:
        """Ends an order that was begun, and returns when its last call has."""
        self._tell("end")
        return self._outcome()

    def _outcome(self) -> Calls:
        answer = json.loads(read_line(self._process, "the generator of load"))
        begins, ends, codes = zip(*answer["calls"], strict=True)
        return Calls(np.array(begins), np.array(ends), np.array(codes), answer["cpu_seconds"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def _tell(self, line: dict[str, Any] | str) -> None:
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()


class Server:
    """A process that prints a line with ` HOST:PORT ` when it can be asked; leave the block, and it ends.

    Args:
      command: starts it.
      log: file for what it writes beyond the line.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("w") as errors:
            self.process = start(command, errors)

    def address(self) -> str:
        """Waits for the line and returns HOST:PORT.

        Raises:
          ServingError: it has ended instead.
        """
        line = read_line(self.process, f"the server (log: {self.log})")
        return next(part for part in line.split() if part.rpartition(":")[2].isdecimal())

    def cpu_seconds(self) -> float:
        """What it has computed so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_megabytes(self) -> float:
        """Of its memory, with that of the processes that it has started."""
        return sum(map(_resident_megabytes, [self.process.pid, *descendants(self.process.pid)]))

    def proportional_megabytes(self) -> float:
        """The same, but what several processes share is counted once among them."""
        return sum(map(_proportional_megabytes, [self.process.pid, *descendants(self.process.pid)]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def start(command: Sequence[str], errors: IO[str] | None = None) -> "subprocess.Popen[str]":
    """A process in the project's folder that is told and tells by lines."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    )


def read_line(process: "subprocess.Popen[str]", name: str) -> str:
    """The next line that a process prints.

    Raises:
      ServingError: it has ended instead.
    """
    assert process.stdout is not None, "it is a pipe"
    line = process.stdout.readline()
    if not line:
        raise ServingError(f"{name} has ended with exit code {process.wait()} before it had told what it should.")
    return line


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, then those that they have."""
    try:
        listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    direct = [int(child) for children in listed for child in children.split()]
    return [*direct, *(grandchild for child in direct for grandchild in descendants(child))]


def _resident_megabytes(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:  # it has just ended
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _proportional_megabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 2**10
