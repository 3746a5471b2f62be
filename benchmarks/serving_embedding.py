r"""How many sentences a second does an export embed, beside Hugging Face transformers? MiniLM, raw strings in.

    python -m benchmarks.serving_embedding --data DATA/financial_phrasebank/phrasebank.tsv \
        --model "$(scripts/get_minilm)" --torch "$(scripts/get_torch)"

Sides, by turns and on the same batches of sentences, which are drawn from the file:
  export           the SavedModel that `serving.export` writes, run as the server runs it (a version-1 Session), in
                   float32 and with --bfloat16_compute; tokenizing is part of the graph
  transformers     PyTorch in another process, the fast tokenizer, padding to the longest of a batch, inference mode;
                   float32, bfloat16 by autocast, and bfloat16 weights
All sides have --num_threads threads. Before anything is timed, embeddings are compared: of sentences whose token ids
are the same on both sides, float32 has to agree to 1e-4. --profile N tells where the export's time goes at batch N.
"""

import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.baselines.other_process import start_side
from benchmarks.minilm_exports import EXPORTS, write_exports
from benchmarks.profiles import print_profile

if TYPE_CHECKING:
    from serving.server.engine import Engine

FLAGS = flags.FLAGS
PEERS = ("float32", "bfloat16 autocast", "bfloat16 weights")
BARS = {  # by batch size
    ("export float32", "torch float32"): {1: 1.05, 8: 1.15, 32: 1.3},
    ("export bfloat16", "torch bfloat16 autocast"): {1: 0.85, 8: 0.9, 32: 1.2},
}
TOLERANCE = 1e-4  # of a number of an embedding in float32
NUM_COMPARED = 200
PROFILED_RUNS = 30
Batches = dict[str, list[list[str]]]
TakeBatches = Callable[[str], float]  # seconds for the batches of that name


def define_flags() -> None:
    """Says on what, beside whom, and how long."""
    flags.DEFINE_string("data", None, "TSV file with a column of sentences.", required=True)
    flags.DEFINE_string("column", "sentence", "Name of that column.")
    flags.DEFINE_string("model", None, "Hugging Face folder of a BERT sentence encoder.", required=True)
    flags.DEFINE_string("torch", None, "Interpreter of an environment with PyTorch and transformers.")
    flags.DEFINE_list("batch_sizes", ["1", "8", "32"], "Sentences of a batch.")
    flags.DEFINE_integer("sentences", 256, "Sentences of a round at each batch size, drawn anew each round.")
    flags.DEFINE_integer("rounds", 7, "Rounds; each side has its turn in each.", lower_bound=1)
    flags.DEFINE_integer("max_tokens", 128, "Tokens that a sentence is cut to.", lower_bound=4)
    flags.DEFINE_integer("num_threads", 2, "Threads of each side.", lower_bound=1)
    flags.DEFINE_integer("profile", 0, "Batch size at which the export is profiled instead; 0: none.", lower_bound=0)


def main() -> None:
    """Exports, compares, and measures by turns; or profiles."""
    sentences = read_sentences(Path(FLAGS.data), FLAGS.column)
    with tempfile.TemporaryDirectory() as folder:
        exports = write_exports(FLAGS.model, FLAGS.max_tokens, Path(folder))
        if FLAGS.profile:
            profile(exports, draw(sentences, FLAGS.profile, 1, seed=0)[0])
            return
        engines = load_engines(exports)
        batches, compared = all_batches(sentences), sentences[:: max(1, len(sentences) // NUM_COMPARED)]
        sides = {name: export_side(engine, batches) for name, engine in engines.items()}
        if FLAGS.torch:
            peers = torch_sides(Path(folder), batches, compared)
            compare(engines, compared, Path(folder) / "compared.npz")
            sides.update(peers)
        report(sides, batches)


def read_sentences(path: Path, column: str) -> list[str]:
    """The different sentences of a file, in alphabetical order."""
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    place = header.split("\t").index(column)
    return sorted({line.split("\t")[place] for line in lines})


def draw(sentences: list[str], size: int, count: int, seed: int) -> list[list[str]]:
    """Random batches; within one no sentence comes twice."""
    generator = np.random.default_rng(seed)
    return [[sentences[index] for index in generator.choice(len(sentences), size, False)] for _ in range(count)]


def all_batches(sentences: list[str]) -> Batches:
    """The batches of every size and round, by `name_of`; round 0 warms up."""
    return {
        name_of(size, number): draw(sentences, size, max(1, FLAGS.sentences // size), seed=number)
        for size in batch_sizes()
        for number in range(FLAGS.rounds + 1)
    }


def name_of(size: int, number: int) -> str:
    """Of the batches of a round."""
    return f"{size} in round {number}"


def batch_sizes() -> list[int]:
    """--batch_sizes as numbers."""
    return [int(size) for size in FLAGS.batch_sizes]


def as_array(texts: list[str]) -> np.ndarray:
    """Texts as a signature takes them."""
    return np.array([text.encode() for text in texts], object)


def profile(exports: dict[str, Path], texts: list[str]) -> None:
    """Tells where each export spends its time."""
    for name, engine in load_engines(exports).items():
        embed(engine, texts)  # makes the graph
        seconds = print_profile(functools.partial(embed, engine, texts), PROFILED_RUNS)
        print(f"{name}, batch {len(texts)}: {seconds * 1e3:.2f} ms a run in operations\n")


def load_engines(exports: dict[str, Path]) -> "dict[str, Engine]":
    """The exports in the server's engine."""
    from tensorflow.core.protobuf import config_pb2

    from serving.server.engine import Engine

    session = config_pb2.ConfigProto(intra_op_parallelism_threads=FLAGS.num_threads)
    return {f"export {name}": Engine(directory, session=session) for name, directory in exports.items()}


def embed(engine: "Engine", texts: list[str]) -> np.ndarray:
    """Embeddings of an export."""
    signature = engine.signatures["embed"]
    feeds = [(signature.inputs["text"].name, as_array(texts))]
    embeddings: np.ndarray = engine.run(feeds, [signature.outputs["embedding"].name])[0]
    return embeddings


def export_side(engine: "Engine", batches: Batches) -> TakeBatches:
    """Batches through an export."""

    def take_batches(name: str) -> float:
        start = time.perf_counter()
        for texts in batches[name]:
            embed(engine, texts)
        return time.perf_counter() - start

    return take_batches


def torch_sides(folder: Path, batches: Batches, compared: list[str]) -> dict[str, TakeBatches]:
    """A process of the other environment, that waits while another side is measured."""
    (folder / "batches.json").write_text(json.dumps({**batches, "compared": compared}), encoding="utf-8")
    settings = {
        "model": FLAGS.model,
        "batches": str(folder / "batches.json"),
        "compared": str(folder / "compared.npz"),
        "num_threads": FLAGS.num_threads,
        "max_tokens": FLAGS.max_tokens,
    }
    ask = start_side(FLAGS.torch, "torch_embedding.py", settings)

    def side(precision: str) -> TakeBatches:
        return lambda name: ask(f"{precision}/{name}")

    return {f"torch {precision}": side(precision) for precision in PEERS}


def compare(engines: "Mapping[str, Engine]", compared: list[str], path: Path) -> None:
    """Stops unless both sides give the same embeddings for the same token ids."""
    found = np.load(path)
    engine = engines["export float32"]
    signature = engine.signatures["token_ids"]
    feeds = [(signature.inputs["text"].name, as_array(compared))]
    ours = engine.run(feeds, [signature.outputs["token_ids"].name])[0]
    theirs = np.split(found["token_ids"], np.cumsum(found["lengths"])[:-1])
    is_same = [np.array_equal(row[row != 0], other) for row, other in zip(ours, theirs, strict=True)]
    embeddings = {name: embed(engine, compared)[is_same] for name, engine in engines.items()}
    peers = {f"torch {name}": found[f"arr_{number}"][is_same] for number, name in enumerate(PEERS)}
    exact = peers["torch float32"]
    largest = float(np.abs(embeddings["export float32"] - exact).max())
    print(f"{sum(is_same)} of {len(compared)} sentences have the same token ids; float32 differs by {largest:.1e}")
    for name, one in {**embeddings, **peers}.items():
        print(f"{name:<26} least cosine to transformers in float32: {np.sum(one * exact, axis=1).min():.6f}")
    assert largest < TOLERANCE, "the two sides do not compute the same model"


def report(sides: dict[str, TakeBatches], batches: Batches) -> None:
    """Measures by turns and prints sentences a second, and each export beside each peer."""
    speeds: dict[tuple[str, int], list[float]] = {(name, size): [] for name in sides for size in batch_sizes()}
    for number in range(FLAGS.rounds + 1):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]  # no side always goes first
        for size in batch_sizes():
            for side in order:
                name = name_of(size, number)
                speed = size * len(batches[name]) / sides[side](name)
                if number:
                    speeds[side, size].append(speed)
    print(f"sentences/s, {FLAGS.num_threads} threads: median (lowest to highest) of {FLAGS.rounds} rounds")
    print(f"{'':<26}" + "".join(f"{f'batch {size}':>28}" for size in batch_sizes()))
    for side in sides:
        cells = [speeds[side, size] for size in batch_sizes()]
        shown = [f"{statistics.median(one):,.1f} ({min(one):,.1f} to {max(one):,.1f})" for one in cells]
        print(f"{side:<26}" + "".join(f"{cell:>28}" for cell in shown))
    for ours in (f"export {name}" for name in EXPORTS):
        for peer in sorted(sides.keys() & {f"torch {precision}" for precision in PEERS}):
            print(f"{ours} / {peer}: " + ", ".join(compared_speeds(speeds, ours, peer, batch_sizes())))


def compared_speeds(speeds: dict[tuple[str, int], list[float]], ours: str, peer: str, sizes: list[int]) -> list[str]:
    """Median ratio of the rounds at each batch size, with the range, and the bar where there is one."""
    cells = []
    for size in sizes:
        ratios = [one / other for one, other in zip(speeds[ours, size], speeds[peer, size], strict=True)]
        bar = BARS.get((ours, peer), {}).get(size)
        aim = "" if bar is None else f", bar {bar}x"
        cells.append(f"batch {size} {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}{aim})")
    return cells


if __name__ == "__main__":
    define_flags()
    run_program(main)
