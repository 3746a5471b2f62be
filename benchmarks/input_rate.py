"""Can the input keep up? Rows from the shards on one core, and preparation beside `tokenizers` alone.

    python -m benchmarks.input_rate --corpus corpora/mixed --input 'heading:DATA/wikitext2/*.txt'

1. Real tokens a second that the input pipeline makes with one core (shards to masked, packed batches), by turns with
   the training step on all cores.
2. MB/s of kerasllm.data.prepare_corpus (read, split into sentences, tokenize, write shards) with the corpus's
   vocabulary, by turns with `tokenizers.BertWordPieceTokenizer.encode_batch` on the same text, read and cut into lines
   before; both with all cores. The text is the input, repeated up to --megabytes.
Prints each round and the medians.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import run_program
from benchmarks.pretrain_sizes import define_size_flags, make_trainer, run_of_sizes

if TYPE_CHECKING:
    from kerasllm.data import Corpus

FLAGS = flags.FLAGS
BATCHES = 200  # of one measurement of the pipeline
STEPS = 4  # of the training


def define_flags() -> None:
    """Says on what."""
    define_size_flags()
    flags.DEFINE_multi_string("input", None, "Text, as for apps.pretrain.prepare.", required=True)
    flags.DEFINE_integer("megabytes", 50, "Text that is prepared.", lower_bound=1)


def main() -> None:
    """Measures both and prints them."""
    from kerasllm import data, training

    training.configure_devices(0, FLAGS.num_threads)
    corpus = data.open_corpus(FLAGS.corpus)
    measure_rows(corpus)
    measure_preparation(corpus)


def measure_rows(corpus: "Corpus") -> None:
    """The pipeline on one core beside the training step on all."""
    from kerasllm import data

    run = run_of_sizes()
    trainer = make_trainer(run, corpus)
    trainer.prepare(1000)
    batches = data.pretraining_batches(corpus.split("train"), run)
    some = list(batches.take(STEPS))
    trained = sum(float((batch["sequence_ids"].numpy() > 0).sum()) for batch in some)
    trainer.train_step(some[0], 0)
    pipeline, training_rate = [], []
    for number in range(FLAGS.rounds):
        start = time.perf_counter()
        for batch in some:
            numbers = trainer.train_step(batch, 1)
        numbers.numpy()
        training_rate.append(trained / (time.perf_counter() - start))
        pipeline.append(on_one_core(corpus, number))
        print(f"round {number + 1}  rows {pipeline[-1]:,.0f}  training {training_rate[-1]:,.0f} tokens/s", flush=True)
    rows, step = statistics.median(pipeline), statistics.median(training_rate)
    print(f"rows {rows:,.0f} tokens/s on one core, training {step:,.0f}: {rows / step:.1f}x\n")


def on_one_core(corpus: "Corpus", number: int) -> float:
    """Real tokens a second of new rows; every thread of this process stays on one core meanwhile."""
    import tensorflow as tf

    from kerasllm import data
    from kerasllm.training import distributed

    cores = os.sched_getaffinity(0)
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    pin(threads, {min(cores)})
    try:
        rows = data.pretraining_batches(corpus.split("train"), run_of_sizes(), start_step=number * BATCHES)
        next_batch = distributed(tf.distribute.get_strategy(), rows)
        next_batch()  # the plan of the epoch is made
        start = time.perf_counter()
        tokens = sum(int((next_batch()["sequence_ids"].numpy() > 0).sum()) for _ in range(BATCHES))
        return tokens / (time.perf_counter() - start)
    finally:
        pin([int(name) for name in os.listdir("/proc/self/task")], cores)


def pin(threads: list[int], cores: set[int]) -> None:
    """Lets the threads run on these cores; new ones inherit it from the one that makes them."""
    for thread in threads:
        try:
            os.sched_setaffinity(thread, cores)
        except ProcessLookupError:  # it has ended
            continue


def measure_preparation(corpus: "Corpus") -> None:
    """Preparation beside the tokenizer alone."""
    from tokenizers import BertWordPieceTokenizer

    from kerasllm import data
    from kerasllm.data.documents import find_sources, read_documents

    run = run_of_sizes()
    documents = [one.text for one in read_documents(find_sources(FLAGS.input, "blank_line"), "text")]
    size = sum(len(text.encode()) for text in documents)
    repeats = max(1, (FLAGS.megabytes << 20) // size)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        with text.open("w", encoding="utf-8") as file:
            for _ in range(repeats):
                file.writelines(f"<DOC> one\n{one}\n" for one in documents)
        corpus.tokenizer.save(folder)
        vocabulary = Path(folder) / "vocab.txt"
        megabytes = text.stat().st_size / (1 << 20)
        lines = [line for line in text.read_text(encoding="utf-8").splitlines() if line]
        peer = BertWordPieceTokenizer(str(vocabulary), lowercase=False)
        ours, theirs = [], []
        for number in range(FLAGS.rounds):
            start = time.perf_counter()
            data.prepare_corpus([f"doc_marker:{text}"], Path(folder) / f"corpus{number}", run, vocabulary)
            ours.append(megabytes / (time.perf_counter() - start))
            start = time.perf_counter()
            peer.encode_batch(lines)
            theirs.append(megabytes / (time.perf_counter() - start))
            print(f"round {number + 1}  preparation {ours[-1]:.2f}  tokenizers {theirs[-1]:.2f} MB/s", flush=True)
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"preparation {mine:.2f} MB/s of {megabytes:.0f} MB, tokenizers alone {other:.2f}: {mine / other:.2f}x")


if __name__ == "__main__":
    define_flags()
    run_program(main)
