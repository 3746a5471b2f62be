r"""Does anyone notice when versions change and things go wrong? Swaps under load, then minutes of faults; memory drawn.

    python -m benchmarks.serving_swap --data DIR/financial_phrasebank/phrasebank.tsv \
        --minilm "$(scripts/get_minilm)" --minutes 10 --picture memory.png

all-MiniLM-L6-v2 embeds sentences, one a request, asked for in an open loop (Poisson) at --load of the peak.
  1. --swaps times: quiet seconds, then the next version is renamed into place and takes over. Calls between the
     renaming and the end of the old version are compared with the quiet ones before.
  2. For --minutes: the same load and a version swap every --swap_every_s, and beside it faulty calls, about
     20 a second: broken and refused requests, a model that throws, one that hangs until the deadline, cancelled calls,
     expired deadlines. Prints how each kind ended, the calls of the healthy load that failed, and the memory.
"""

import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.load import minilm
from benchmarks.load.embedded import define_load_flags, server_command
from benchmarks.load.faults import FAULTY, Faults, write_faulty
from benchmarks.load.sides import PREDICT, Generator, Server
from kerasllm.errors import ServingError
from serving.clients import PredictClient

FLAGS = flags.FLAGS
POLL_S = 0.05  # of states and memory
MOST_SECONDS = 300.0  # that a swap may take


def define_flags() -> None:
    """Says how much is asked, how often versions change, and how long."""
    define_load_flags()
    flags.DEFINE_float("load", 0.5, "Calls, as a share of the peak.", lower_bound=0.01)
    flags.DEFINE_integer("swaps", 6, "Swaps of the first part.", lower_bound=1)
    flags.DEFINE_float("seconds", 10.0, "Quiet time before each.", lower_bound=1)
    flags.DEFINE_float("minutes", 10.0, "Time of the second part; 0: left out.", lower_bound=0)
    flags.DEFINE_float("swap_every_s", 20.0, "Time between swaps of the second part.", lower_bound=1)
    flags.DEFINE_string("picture", "serving_memory.png", "Picture of the memory over time.")


class Versions:
    """Publishes copies of a version under a base path, and waits until the newest one has taken over.

    Args:
      version: folder of a version; the base path is beside it, and holds it already.
      address: of the server.
    """

    def __init__(self, version: Path, address: str) -> None:
        self._base_path, self._number = version.parent, int(version.name)
        self._client = PredictClient(address, minilm.NAME, deadline_s=60)

    def prepare(self) -> Path:
        """A copy of the newest version, at rest, under a name that is no number."""
        prepared = self._base_path / "unfinished"
        shutil.copytree(self._base_path / str(self._number), prepared)
        time.sleep(1.1)  # files that have just changed are waited for
        return prepared

    def swap(self, prepared: Path) -> tuple[float, float]:
        """Renames the copy into place and returns when that was, and when the old version had ended."""
        old, self._number = self._base_path / str(self._number), self._number + 1
        start = time.monotonic()
        prepared.rename(self._base_path / str(self._number))
        while not self._has_taken_over():
            if time.monotonic() > start + MOST_SECONDS:
                raise ServingError(f"version {self._number} has not taken over in {MOST_SECONDS:g} s.")
            time.sleep(POLL_S)
        end = time.monotonic()
        shutil.rmtree(old)
        return start, end

    def _has_taken_over(self) -> bool:
        states = {found.version: found.state for found in self._client.status()}
        return states.pop(self._number, "") == "AVAILABLE" and set(states.values()) <= {"END"}


def main() -> None:
    """Measures both parts."""
    requests = minilm.predict_requests(minilm.read_sentences(FLAGS.data, FLAGS.num_sentences))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        version = minilm.write_minilm(FLAGS.minilm, folder)
        write_faulty(folder / FAULTY / "1")
        config = folder / "models.config"
        config.write_text(f"model_config_list {{ {_entry(version.parent)} {_entry(folder / FAULTY)} }}", "utf-8")
        flags_of_server = f"--model_config_file={config}", "--file_system_poll_wait_seconds=0.1"
        with Server(server_command(folder, *flags_of_server), folder / "log") as server:
            address = server.address()
            versions = Versions(version, address)
            with Generator("grpc", address, PREDICT, requests) as generator:
                generator.ask(clients=1, seconds=1)
                rate = FLAGS.load * generator.ask(clients=64, seconds=5).rate
                print(f"{rate:.0f} calls a second, {FLAGS.load:.0%} of the peak")
                swap_under_load(versions, generator, rate)
                if FLAGS.minutes:
                    endure_faults(server, versions, generator, rate, address)


def swap_under_load(versions: Versions, generator: Generator, rate: float) -> None:
    """Prints the latency before and during each swap, and of all together."""
    before: list[float] = []
    during: list[float] = []
    ratios: list[float] = []
    failures: Counter[str] = Counter()
    print(f"{'swap':>6}{'seconds':>9}{'before: p50':>13}{'p99':>8}{'during: p50':>13}{'p99':>8}{'failed':>8}")
    for number in range(1, FLAGS.swaps + 1):
        prepared = versions.prepare()
        generator.begin(rate=rate, deadline_s=30)
        begin = time.monotonic() + 0.5
        time.sleep(FLAGS.seconds)
        start, end = versions.swap(prepared)
        calls = generator.end()
        quiet = (calls.begins > begin) & (calls.ends < start)
        swapping = calls.between(start, end)
        p50, p99 = ([calls.milliseconds(percent, chosen) for chosen in (quiet, swapping)] for percent in (50, 99))
        failures.update(calls.failures())
        failed = int((~calls.is_ok).sum())
        print(
            f"{number:6d}{end - start:9.1f}{p50[0]:13.1f}{p99[0]:8.1f}{p50[1]:13.1f}{p99[1]:8.1f}{failed:8d}",
            flush=True,
        )
        ratios.append(p99[1] / p99[0])
        before += calls.latencies_ms(quiet)
        during += calls.latencies_ms(swapping)
    whole = np.percentile(during, 99) / np.percentile(before, 99)
    print(
        f"p99 of all: {np.percentile(before, 99):.1f} ms before, {np.percentile(during, 99):.1f} ms during the swaps: "
        f"{whole:.2f}x; of single swaps {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}); "
        f"bar 2.00; failed: {dict(failures) or 0}; bar 0"
    )


def endure_faults(server: Server, versions: Versions, generator: Generator, rate: float, address: str) -> None:
    """Asks amid faults and swaps; prints how calls ended and draws the memory."""
    memory: list[tuple[float, float]] = []
    swaps: list[tuple[float, float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            memory.append((time.monotonic(), server.resident_megabytes()))

    watcher, start = threading.Thread(target=watch), time.monotonic()
    watcher.start()
    try:
        with Faults(address, minilm.NAME) as faults:
            generator.begin(rate=rate, deadline_s=30)
            while FLAGS.swap_every_s * (len(swaps) + 1) < 60 * FLAGS.minutes:
                prepared = versions.prepare()
                time.sleep(max(0.0, FLAGS.swap_every_s * (len(swaps) + 1) - (time.monotonic() - start)))
                swaps.append(versions.swap(prepared))
            time.sleep(max(0.0, start + 60 * FLAGS.minutes - time.monotonic()))
            calls = generator.end()
    finally:
        over.set()
        watcher.join()
    print(f"\n{FLAGS.minutes:g} minutes, {len(swaps)} swaps, {sum(faults.outcomes.values())} faulty calls:")
    for (kind, code), count in sorted(faults.outcomes.items()):
        print(f"{kind:>24}  {code:<20}{count:6d}")
    print(
        f"healthy calls: {len(calls.codes)}, p50 {calls.milliseconds(50):.1f} ms, p99 {calls.milliseconds(99):.1f} ms, "
        f"failed: {calls.failures() or 0}; bar 0"
    )
    report_memory(memory, start, swaps)


def report_memory(memory: Sequence[tuple[float, float]], start: float, swaps: Sequence[tuple[float, float]]) -> None:
    """Prints by how much it grew, from the second quarter of the time to the last one, and draws it."""
    times, megabytes = np.array(memory).T
    quarters = np.array_split(megabytes, 4)
    second, last = (float(np.median(quarters[index])) for index in (1, 3))
    print(
        f"resident memory: {megabytes.min():.0f} to {megabytes.max():.0f} MB; median of the second quarter "
        f"{second:.0f}, of the last {last:.0f} MB ({last / second - 1:+.1%})"
    )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot((times - start) / 60, megabytes, color="#2b6cb0", linewidth=1.2)
    for swap, _ in swaps:
        axes.axvline((swap - start) / 60, color="#c53030", linewidth=0.6, alpha=0.4)
    axes.set(xlabel="minutes", ylabel="MB", ylim=(0, 1.15 * megabytes.max()))
    axes.set_title(
        f"Resident memory of the server under load and faults; {len(swaps)} version swaps in red", loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    figure.savefig(FLAGS.picture, dpi=120)
    print(f"drawn: {FLAGS.picture}")


def _entry(base_path: Path) -> str:
    return f'config {{ name: "{base_path.name}" base_path: "{base_path}" model_platform: "tensorflow" }}'


if __name__ == "__main__":
    define_flags()
    run_program(main)
