"""Where does the time of a run go? Every second is booked on exactly one entry, beside what was learned in it."""

import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kerasllm.errors import TrainingError
from kerasllm.training.flops import ModelFlops

FORMAT_VERSION = 1
ENTRIES = ("training", "input_wait", "tracing", "checkpoint", "evaluation", "other")
NANO = 1_000_000_000


@dataclass
class Work:
    """What steps did; steps that were skipped for a number that is not finite taught nothing and are left out."""

    steps: int = 0
    tokens: float = 0.0
    slots: float = 0.0  # tokens and padding
    flop: float = 0.0  # that the model needs for these tokens, see count_flops

    def add(self, numbers: Mapping[str, float], flop: float) -> None:
        """One more step."""
        self.steps += 1
        self.tokens += numbers["tokens"]
        self.slots += numbers["slots"]
        self.flop += flop

    def minus(self, other: "Work") -> "Work":
        """What was done since `other`."""
        return Work(*(mine - theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


class Ledger:
    """A clock that always runs on one entry, so that the entries add up to the wall clock by construction.

    The time is the host's, booked on what it does or waits for:
      training    in a step, or waiting for a step's numbers; where batches are rows of tokens, reports divide it into
                  useful tokens and padding, by their shares of the rows
      input_wait  waiting for a batch. A device may be at work on the step before meanwhile, so this is the most that
                  the input can have cost.
      tracing     calls that make a graph, whole: what TensorFlow optimises and compiles at the first run of a graph
                  cannot be told from that run
      checkpoint  saving and restoring
      evaluation  held-out batches, and the samples made beside them
      other       all else: making the model, measuring the machine, writing logs

    Time and work of earlier processes in the same workdir are in it too. What was done twice, after a fall back to the
    last checkpoint, counts twice.

    Args:
      clock: nanoseconds from some fixed point on.

    Attributes:
      entry: on which time is booked now.
      flops: what the model needs in a step; None if that is not known.
      matrix_product: FLOP/s that the machine can do, measured by this process; NaN if it was not.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self.flops: Callable[[int], ModelFlops] | None = None
        self.matrix_product = math.nan
        self._timed, self._looked, self._looked_ns = Work(), Work(), 0
        self._begin({})

    @contextlib.contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        """Books what happens inside on top of what the file says of earlier processes.

        Raises:
          TrainingError: the file is not a ledger.
        """
        self._begin(_read(path))
        try:
            yield
        finally:
            self.write(path)

    @contextlib.contextmanager
    def spending(self, entry: str) -> Iterator[None]:
        """Books the time inside on an entry; nested, the inner one has it."""
        outer = self.entry
        self._turn_to(entry)
        try:
            yield
        finally:
            self._turn_to(outer)

    def booked(self, entry: str) -> float:
        """Seconds on an entry until it was last left; useful tokens and padding are together `training`."""
        return self._booked[entry] / NANO

    def tracing(self) -> None:
        """Called while a graph is made: the call under way is booked as tracing."""
        self.entry = "tracing"

    def book(self, step: int, numbers: Mapping[str, float], is_timed: bool) -> None:
        """A step's numbers; `is_timed`: its time was booked as training."""
        if numbers["skipped"]:
            return
        flop = self.flops(step).of_training(numbers) if self.flops else 0.0
        self._work.add(numbers, flop)
        if is_timed:
            self._timed.add(numbers, flop)

    def rates(self) -> dict[str, float]:
        """Rates of training since the last call: input wait counts, making graphs, evaluation and saving do not."""
        now = self._booked["training"] + self._booked["input_wait"]
        seconds, work = (now - self._looked_ns) / NANO, self._timed.minus(self._looked)
        self._looked_ns, self._looked = now, Work(**asdict(self._timed))
        if not (seconds and work.steps):
            return {}
        return {"steps_per_s": work.steps / seconds, **self._rates_of(work, seconds)}

    def summary(self) -> dict[str, Any]:
        """All of it so far; what ledger.json holds."""
        self._turn_to(self.entry)
        seconds = self._seconds()
        wall_clock = (self._earlier_ns + self._since - self._started) / NANO
        trained = (self._booked["training"] + self._booked["input_wait"]) / NANO
        return {
            "format_version": FORMAT_VERSION,
            "processes": self._processes,
            "wall_clock_s": wall_clock,
            "seconds": seconds,
            "shares": {entry: spent / wall_clock if wall_clock else 0.0 for entry, spent in seconds.items()},
            "work": asdict(self._work),
            "timed_work": asdict(self._timed),
            "whole_run": self._rates_of(self._work, wall_clock),
            "while_training": self._rates_of(self._timed, trained),
            "matrix_product_flops_per_s": None if math.isnan(self.matrix_product) else self.matrix_product,
            "peak_memory_bytes": peak_memory_bytes(),
        }

    def write(self, path: Path) -> None:
        """Replaces the file as a whole."""
        unfinished = path.with_name(f"{path.name}.unfinished")
        unfinished.write_text(json.dumps(self.summary(), indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)

    def _begin(self, earlier: Mapping[str, Any]) -> None:
        seconds = dict(earlier.get("seconds", {}))
        seconds["training"] = sum(seconds.get(entry, 0.0) for entry in ("training", "useful_tokens", "padding"))
        self._booked = {entry: round(seconds.get(entry, 0.0) * NANO) for entry in ENTRIES}
        self._work, self._timed = Work(**earlier.get("work", {})), Work(**earlier.get("timed_work", {}))
        self._processes = earlier.get("processes", 0) + 1
        self._earlier_ns = sum(self._booked.values())
        self._looked_ns = self._booked["training"] + self._booked["input_wait"]
        self._looked = Work(**asdict(self._timed))
        self.entry = "other"
        self._started = self._since = self._clock()

    def _turn_to(self, entry: str) -> None:
        now = self._clock()
        self._booked[self.entry] += now - self._since
        self._since, self.entry = now, entry

    def _seconds(self) -> dict[str, float]:
        booked = dict(self._booked)
        if self._work.slots:
            training = booked.pop("training")
            useful = round(training * self._work.tokens / self._work.slots)
            booked = {"useful_tokens": useful, "padding": training - useful, **booked}
        return {entry: spent / NANO for entry, spent in booked.items()}

    def _rates_of(self, work: Work, seconds: float) -> dict[str, float]:
        rates = {}
        if work.tokens and seconds:
            rates["tokens_per_s"] = work.tokens / seconds
        if work.flop and seconds:
            rates["useful_flops_per_s"] = work.flop / seconds
            if not math.isnan(self.matrix_product):
                rates["matrix_product_share"] = work.flop / seconds / self.matrix_product
        return rates


def peak_memory_bytes() -> int:
    """Largest resident set of this process so far; a GPU's own memory is not in it."""
    status = Path("/proc/self/status")  # of this program alone; getrusage also knows what its parent was at the fork
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def _read(path: Path) -> dict[str, Any]:
    """What an earlier process wrote; nothing if there was none."""
    if not path.exists():
        return {}
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if earlier["format_version"] != FORMAT_VERSION:
            raise ValueError(f"it has format version {earlier['format_version']}, this program reads {FORMAT_VERSION}")
        Work(**earlier["work"]), Work(**earlier["timed_work"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(
            f"{path} is not a ledger ({error}). Remove it: the run goes on, its times begin anew."
        ) from None
    return earlier
