"""How full are the rows of a corpus, packed and not?

    python -m benchmarks.packing_fill --config configs/pretrain/bert_small.yaml --corpus corpora/mixed

Prints a table for the run's objective: rows of an epoch, the share of their tokens that is no padding, and the share of
the sequences that are pairs; one line for each way and epoch. Reads lengths only, no tokens.
"""

from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import define_run_flags, run_from_flags, run_program
from kerasllm.config import Run

if TYPE_CHECKING:
    from kerasllm.data import Split

FLAGS = flags.FLAGS
EPOCHS = 2


def define_flags() -> None:
    """Says where from."""
    define_run_flags()
    flags.DEFINE_string("corpus", None, "Folder that apps.pretrain.prepare wrote.", required=True)


def main() -> None:
    """Plans some epochs and prints how full their rows are."""
    run = run_from_flags()

    from kerasllm import data

    train = data.open_corpus(FLAGS.corpus).split("train")
    print(f"{'':<10}{'epoch':>6}{'rows':>10}{'a row':>6}{'fill':>9}{'pairs':>8}")
    for packs in (False, True):
        for epoch in range(EPOCHS):
            rows, most, fill, pairs = measure(train, run, packs, epoch)
            print(f"{'packed' if packs else 'alone':<10}{epoch:>6}{rows:>10,}{most:>6}{fill:>9.2%}{pairs:>8.1%}")


def measure(split: "Split", run: Run, packs: bool, epoch: int) -> tuple[int, int, float, float]:
    """Rows of an epoch of BERT, places for sequences in each, share that is no padding, share of pairs."""
    from kerasllm.data import packing, plans

    length = run.train.sequence_length
    pairs = run.objective.pairs if run.objective.next_sentence_weight > 0 else None
    first, sequences = (plans.plan_pairs(split, run.seed, n, length, pairs, cut=packs) for n in (0, epoch))
    most = packing.sequences_a_row(first, length) if packs else 1
    rows = packing.pack_rows(sequences, length, run.seed, epoch, most) if packs else packing.one_a_row(sequences)
    tokens = sequences.length_a.sum() + sequences.length_b.sum() + 2 * len(sequences)
    tokens += np.count_nonzero(sequences.length_b)
    return len(rows), most, float(tokens) / (len(rows) * length), float(sequences.has_pair.mean())


if __name__ == "__main__":
    define_flags()
    run_program(main)
