r"""What is left of the server when it is asked for twice what it can do? With and without shedding.

    python -m benchmarks.serving_overload --data DIR/financial_phrasebank/phrasebank.tsv \
        --minilm "$(scripts/get_minilm)"

all-MiniLM-L6-v2 embeds sentences, one a request. Each round measures the peak in a closed loop, then asks at --times
that peak in an open loop (Poisson), whose calls have --deadline_ms each:
  shedding      --max_queue_delay_ms refuses (RESOURCE_EXHAUSTED) what would wait too long
  no shedding   the same server without it
Goodput is what is answered within the deadline. The two servers are processes of their own, asked by turns.
"""

import statistics
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

from absl import flags

from apps.flags import run_program
from benchmarks.load import minilm
from benchmarks.load.embedded import define_load_flags, server_command, serves
from benchmarks.load.sides import PREDICT, Generator, Server

FLAGS = flags.FLAGS
SIDES = ("shedding", "no shedding")


def define_flags() -> None:
    """Says how much too much is asked, and how long."""
    define_load_flags()
    flags.DEFINE_float("max_queue_delay_ms", 250.0, "The server's flag.", lower_bound=1)
    flags.DEFINE_float("deadline_ms", 1000.0, "Time that a call has in the open loop.", lower_bound=1)
    flags.DEFINE_float("times", 2.0, "Calls of the open loop, as a multiple of the peak.", lower_bound=0.1)
    flags.DEFINE_integer("clients", 64, "Clients of the closed loop that finds the peak.", lower_bound=1)
    flags.DEFINE_integer("rounds", 3, "Rounds; every side is measured once in each.", lower_bound=1)
    flags.DEFINE_float("seconds", 10.0, "Time for which each figure is measured.", lower_bound=1)


def main() -> None:
    """Overloads both servers by turns and prints what came out."""
    requests = minilm.predict_requests(minilm.read_sentences(FLAGS.data, FLAGS.num_sentences))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        base_path = minilm.write_minilm(FLAGS.minilm, Path(folder)).parent
        generators = {}
        for name in SIDES:
            shedding = [f"--max_queue_delay_ms={FLAGS.max_queue_delay_ms}"] if name == "shedding" else []
            command = server_command(Path(folder), *serves(base_path), *shedding)
            server = stack.enter_context(Server(command, Path(folder) / f"{name}.log"))
            generators[name] = stack.enter_context(Generator("grpc", server.address(), PREDICT, requests))
        values: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in SIDES}
        refused: dict[str, Counter[str]] = {name: Counter() for name in SIDES}
        for number in range(FLAGS.rounds):
            for name in SIDES if number % 2 == 0 else SIDES[::-1]:
                refused[name].update(overload(generators[name], values[name]))
                columns = "  ".join(f"{column} {found[-1]:.1f}" for column, found in values[name].items())
                print(f"round {number + 1}  {name:<12} {columns}", flush=True)
        report(values, refused)


def overload(generator: Generator, columns: dict[str, list[float]]) -> dict[str, int]:
    """Adds the figures of a round to `columns`, and returns how many calls failed, by code."""
    peak = generator.ask(clients=FLAGS.clients, seconds=FLAGS.seconds)
    assert peak.is_ok.all(), f"calls failed in the closed loop: {peak.failures()}"
    over = generator.ask(rate=FLAGS.times * peak.rate, seconds=FLAGS.seconds, deadline_s=FLAGS.deadline_ms / 1000)
    columns["peak"].append(peak.rate)
    columns["asked"].append(len(over.codes) / FLAGS.seconds)
    columns["goodput"].append(float(over.is_ok.sum()) / FLAGS.seconds)
    columns["peak p99"].append(peak.milliseconds(99))
    columns["p50"].append(over.milliseconds(50) if over.is_ok.any() else float("nan"))
    columns["p99"].append(over.milliseconds(99) if over.is_ok.any() else float("nan"))
    columns["asking cores"].append(over.cpu_seconds / FLAGS.seconds)
    return over.failures()


def report(values: dict[str, dict[str, list[float]]], refused: dict[str, Counter[str]]) -> None:
    """Prints the table, and goodput as a share of the peak."""
    print(
        f"\nMedians of {FLAGS.rounds} rounds of {FLAGS.seconds:g} s; calls a second, milliseconds of what was answered"
    )
    print(f"{'':<14}" + "".join(f"{column:>14}" for column in values[SIDES[0]]))
    for name, columns in values.items():
        print(f"{name:<14}" + "".join(f"{statistics.median(found):14.1f}" for found in columns.values()))
    for name, columns in values.items():
        shares = [one / other for one, other in zip(columns["goodput"], columns["peak"], strict=True)]
        print(
            f"{name}: goodput {statistics.median(shares):.2f} of the peak ({min(shares):.2f} to {max(shares):.2f})"
            f"{'; bar 0.80' if name == SIDES[0] else ''}; not answered: {dict(refused[name])}"
        )


if __name__ == "__main__":
    define_flags()
    run_program(main)
