r"""What does the server make of a model's speed, beside other ways to serve it? Closed loops of 1 to 64 clients.

    python -m benchmarks.serving_load --data DIR/financial_phrasebank/phrasebank.tsv \
        --minilm "$(scripts/get_minilm)" --torch "$(scripts/get_torch_server)"

all-MiniLM-L6-v2 embeds sentences, one a request. Every side is a process of its own that is asked by another one:
  kerasllm           python -m serving.server with batching, over gRPC
  model.predict      a gRPC server around Keras's predict (benchmarks/baselines/keras_server.py)
  FastAPI + torch    Hugging Face's model behind HTTP, with micro-batching (benchmarks/baselines/torch_server.py)
and in this process, by turns with them, the exported model itself: batches of 32 by one thread and by two (the better
one is what a server can reach at most), and one sentence at a time. Prints each round, then medians and ranges.
"""

import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.load import minilm
from benchmarks.load.embedded import define_load_flags, server_command, serves
from benchmarks.load.sides import PREDICT, Calls, Generator, Server

if TYPE_CHECKING:
    from serving.server.engine import Engine

FLAGS = flags.FLAGS
OURS, KERAS, TORCH = "kerasllm", "model.predict", "FastAPI + torch"
MOST_THREADS = 2  # that run batches in process
Measure = Callable[[], dict[str, float]]  # by column: rate, p50, p99, cores of who asks, cores of who answers


def define_flags() -> None:
    """Says beside whom, by how many, and how long."""
    define_load_flags()
    flags.DEFINE_string("torch", None, "Interpreter that scripts/get_torch_server printed; without it, left out.")
    flags.DEFINE_bool("keras", True, "Measure the server around model.predict.")
    flags.DEFINE_list("clients", ["1", "4", "16", "64"], "Clients at a time.")
    flags.DEFINE_integer("rounds", 3, "Rounds; every side is measured once in each.", lower_bound=1)
    flags.DEFINE_integer("pairs", 15, "Turns of a second of bare calls and a second of served ones.", lower_bound=1)
    flags.DEFINE_float("seconds", 5.0, "Time for which each figure is measured.", lower_bound=0.1)


def main() -> None:
    """Starts all sides, takes rounds by turns and prints what came out."""
    from serving.server.engine import Engine

    sentences = minilm.read_sentences(FLAGS.data, FLAGS.num_sentences)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        version = minilm.write_minilm(FLAGS.minilm, Path(folder))
        engine = Engine(version)
        measures = in_process(engine, sentences)
        for name, server in start_sides(version.parent).items():
            stack.enter_context(server)
            address = server.address()
            if name == TORCH:
                generator = Generator("http", address, "/embed", minilm.json_requests(sentences))
            else:
                generator = Generator("grpc", address, PREDICT, minilm.predict_requests(sentences))
            stack.enter_context(generator)
            for clients in map(int, FLAGS.clients):
                measures[f"{name}, {clients}"] = asked(server, generator, clients)
            if name == OURS:
                ours = generator
        report(take_rounds(measures))
        report_added(engine, sentences, ours)


def start_sides(base_path: Path) -> dict[str, Server]:
    """A server's process for each side."""
    commands = {OURS: server_command(base_path.parent, *serves(base_path))}
    if FLAGS.keras:
        commands[KERAS] = [sys.executable, "-m", "benchmarks.baselines.keras_server", FLAGS.minilm]
    if FLAGS.torch:
        script = Path(__file__).parent / "baselines" / "torch_server.py"
        commands[TORCH] = [FLAGS.torch, str(script), FLAGS.minilm]
    return {
        name: Server(command, base_path.parent / f"{number}.log")
        for number, (name, command) in enumerate(commands.items())
    }


def asked(server: Server, generator: Generator, clients: int) -> Measure:
    """A side under so many clients; a failed call ends the benchmark."""

    def measure() -> dict[str, float]:
        generator.ask(clients=clients, seconds=0.2)  # not from a standing start
        start, computed = time.monotonic(), server.cpu_seconds()
        calls = generator.ask(clients=clients, seconds=FLAGS.seconds)
        elapsed, computed = time.monotonic() - start, server.cpu_seconds() - computed
        assert calls.is_ok.all(), f"calls failed: {calls.failures()}"
        return figures(calls, computed / elapsed)

    return measure


def figures(calls: Calls, server_cores: float) -> dict[str, float]:
    """The columns of the table."""
    seconds = float(calls.ends.max() - calls.begins.min())
    return {
        "rate": calls.rate,
        "p50": calls.milliseconds(50),
        "p99": calls.milliseconds(99),
        "client cores": calls.cpu_seconds / seconds,
        "server cores": server_cores,
    }


def in_process(engine: "Engine", sentences: list[str]) -> dict[str, Measure]:
    """The exported model without a server: what there is to be reached."""
    texts = np.array([sentence.encode() for sentence in sentences], object)
    rows = FLAGS.max_batch_size
    batches = {
        f"in process, batch {rows}, {count} threads": lambda count=count: figures_of_batches(engine, texts, rows, count)
        for count in range(1, MOST_THREADS + 1)
    }
    return {"in process, batch 1": lambda: figures_of_batches(engine, texts, 1, 1), **batches}


def figures_of_batches(engine: "Engine", texts: np.ndarray, rows: int, num_threads: int) -> dict[str, float]:
    """The columns of the table for batches of equal size in so many threads."""
    computed = time.process_time()
    calls = run_batches(engine, texts, rows, num_threads, FLAGS.seconds)
    seconds = float(calls.ends.max() - calls.begins.min())
    one = figures(calls, (time.process_time() - computed) / seconds)
    return {**one, "rate": one["rate"] * rows}


def run_batches(engine: "Engine", texts: np.ndarray, rows: int, num_threads: int, seconds: float) -> Calls:
    """Runs batches of equal size in so many threads."""
    signature = engine.signatures["serving_default"]
    feed, fetch = signature.inputs["text"].name, signature.outputs["embedding"].name
    batches: Iterator[np.ndarray] = itertools.cycle([texts[at : at + rows] for at in range(0, len(texts), rows)])
    taking = threading.Lock()
    times: list[tuple[float, float]] = []
    end = time.monotonic() + seconds

    def run() -> None:
        while (begin := time.monotonic()) < end:
            with taking:
                batch = next(batches)
            engine.run([(feed, batch)], [fetch])
            times.append((begin, time.monotonic()))

    threads = [threading.Thread(target=run) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begins, ends = np.array(times).T
    return Calls(begins, ends, np.full(len(times), "OK"), 0.0)


def take_rounds(measures: dict[str, Measure]) -> dict[str, dict[str, list[float]]]:
    """Measures everything once in each round, forwards and backwards in turn; by name and column the figures."""
    values: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in measures}
    for number in range(FLAGS.rounds):
        for name in list(measures) if number % 2 == 0 else list(measures)[::-1]:
            for column, value in measures[name]().items():
                values[name][column].append(value)
            print(f"round {number + 1}  {name:<30} {values[name]['rate'][-1]:8.1f}/s", flush=True)
    return values


def report(values: dict[str, dict[str, list[float]]]) -> None:
    """Prints the table, and what the server has to show."""
    print(f"\nMedians of {FLAGS.rounds} rounds of {FLAGS.seconds:g} s; sentences a second, milliseconds, cores")
    print(f"{'':<32}{'rate':>8}{'lowest':>8}{'highest':>8}{'p50':>8}{'p99':>8}{'asking':>8}{'answering':>10}")
    for name, columns in values.items():
        rates = columns["rate"]
        medians = {column: statistics.median(found) for column, found in columns.items()}
        print(
            f"{name:<32}{medians['rate']:8.1f}{min(rates):8.1f}{max(rates):8.1f}{medians['p50']:8.2f}"
            f"{medians['p99']:8.2f}{medians['client cores']:8.2f}{medians['server cores']:10.2f}"
        )
    best, ours = best_of(values, "in process, batch"), best_of(values, OURS)
    print(f"\nof the best in process ({best[0]}): {spread(values, ours[0], best[0])} at its best ({ours[0]}); bar 0.80")
    for peer in (KERAS, TORCH):
        if any(name.startswith(peer) for name in values):
            name = best_of(values, peer)[0]
            print(f"of {name}: {spread(values, ours[0], name)}; bar 1.20")


def report_added(engine: "Engine", sentences: list[str], ours: Generator) -> None:
    """Prints what the server adds to a bare call when there is one client: the same sentences by turns."""
    texts = np.array([sentence.encode() for sentence in sentences], object)
    sides = {
        "bare": lambda: run_batches(engine, texts, 1, 1, seconds=1),
        "served": lambda: ours.ask(clients=1, seconds=1),
    }
    p50: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(FLAGS.pairs):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            p50[name].append(sides[name]().milliseconds(50))
    added = sorted(served - bare for served, bare in zip(p50["served"], p50["bare"], strict=True))
    low, high = added[len(added) // 4], added[-1 - len(added) // 4]
    print(
        f"added by the server to a bare call of {statistics.median(p50['bare']):.2f} ms, p50 with one client, "
        f"{len(added)} pairs: {statistics.median(added):.2f} ms (middle half {low:.2f} to {high:.2f}); bar 1.50"
    )


def best_of(values: dict[str, dict[str, list[float]]], side: str) -> tuple[str, float]:
    """Which of a side's lines has the highest median rate, and that."""
    rates = {name: statistics.median(one["rate"]) for name, one in values.items() if name.startswith(side)}
    return max(rates.items(), key=lambda item: item[1])


def spread(values: dict[str, dict[str, list[float]]], name: str, other: str) -> str:
    """The ratio of two lines' rates over the rounds."""
    ratios = [a / b for a, b in zip(values[name]["rate"], values[other]["rate"], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    define_flags()
    run_program(main)
