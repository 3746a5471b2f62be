"""What do baselines without a network reach on the held-out rows that a pretraining run is scored on?

    python -m benchmarks.pretraining_baselines --config configs/pretrain/demo.yaml --corpus corpora/mine

For BERT: the most frequent token at the masked slots, and word overlap for next-sentence pairs. For GPT: a unigram and
an interpolated Kneser-Ney bigram on the same next tokens. Prints one JSON object; counts are of the training part.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import define_run_flags, run_from_flags, run_program
from benchmarks.baselines import unigram, word_overlap
from benchmarks.baselines.kneser_ney import KneserNeyBigram
from kerasllm.config import Run
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.data import Corpus

FLAGS = flags.FLAGS
Batch = dict[str, np.ndarray]
# B rows, T tokens, M masked slots, V vocabulary


def define_flags() -> None:
    """Says where from."""
    define_run_flags()
    flags.DEFINE_string("corpus", None, "Folder that apps.pretrain.prepare wrote.", required=True)


def main() -> None:
    """Scores the baselines of the run's task and prints them."""
    run = run_from_flags()

    from kerasllm import data

    corpus = data.open_corpus(FLAGS.corpus)
    score = {"bert_pretraining": score_bert, "gpt_pretraining": score_gpt}.get(run.objective.task)
    if score is None:
        raise ConfigError(f"objective.task={run.objective.task!r} has no baseline here: take a pretraining run.")
    print(json.dumps(score(corpus, run), indent=2))


def score_bert(corpus: "Corpus", run: Run) -> dict[str, float | int | str]:
    """Masked tokens by the unigram, pairs by word overlap."""
    train = corpus.split("train")
    counts = train.token_counts()
    held_out = list(batches(corpus, run, "held_out"))
    masked = unigram.score_masked_tokens(
        counts,
        np.concatenate([batch["masked_labels"].ravel() for batch in held_out]),
        np.concatenate([batch["masked_weights"].ravel() for batch in held_out]),
    )
    scores: dict[str, float | int | str] = {
        "unigram_masked_accuracy": masked.accuracy,
        "unigram_masked_perplexity": masked.perplexity,
        "unigram_guess": corpus.tokenizer.words[masked.token_id],
    }
    if run.objective.next_sentence_weight > 0:
        ignored = word_overlap.frequent_tokens(counts)
        ignored[[corpus.tokenizer.special.cls, corpus.tokenizer.special.sep]] = True
        fitted = word_overlap.fit_threshold(*pairs(batches(corpus, run, "train"), ignored))
        overlaps, is_random = pairs(iter(held_out), ignored)
        scores |= {
            "overlap_next_sentence_accuracy": fitted.accuracy(overlaps, is_random),
            "overlap_threshold": fitted.threshold,
            "next_sentence_majority": float(max(is_random.mean(), 1 - is_random.mean())),
            "pairs": len(is_random),
        }
    return scores


def score_gpt(corpus: "Corpus", run: Run) -> dict[str, float | int | str]:
    """Next tokens by the unigram and by the Kneser-Ney bigram."""
    vocab_size = corpus.tokenizer.vocab_size
    previous, following = next_tokens(batches(corpus, run, "train"))
    held_previous, held_following = next_tokens(batches(corpus, run, "held_out"))
    counts = unigram.count_tokens(following, vocab_size)
    single = unigram.score_masked_tokens(counts, held_following, np.ones(len(held_following)))
    bigram = KneserNeyBigram.fit(previous, following, vocab_size)
    return {
        "unigram_perplexity": single.perplexity,
        "kneser_ney_bigram_perplexity": bigram.perplexity(held_previous, held_following),
        "train_tokens": len(following),
        "held_out_tokens": len(held_following),
    }


def batches(corpus: "Corpus", run: Run, split: str) -> Iterator[Batch]:
    """One epoch of a part as the model gets it."""
    from kerasllm import data

    part = corpus.split("train" if split == "train" else "held_out")
    yield from data.pretraining_batches(part, run, start_step=0, repeat=False).as_numpy_iterator()


def pairs(rows: Iterator[Batch], ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlaps [N] of the pairs in some batches, and whether their second part is random [N]."""
    overlaps, is_random = [], []
    for batch in rows:
        token_ids = unmasked(batch)
        for row, slot in np.argwhere(batch["pair_weights"] > 0):
            here, second = batch["sequence_ids"][row] == slot + 1, batch["token_type_ids"][row] == 1
            parts = token_ids[row, here & ~second], token_ids[row, here & second]
            overlaps.append(word_overlap.overlap(*parts, ignored))
            is_random.append(batch["pair_labels"][row, slot])
    return np.array(overlaps), np.array(is_random)


def unmasked(batch: Batch) -> np.ndarray:
    """Token ids [B, T] with the tokens behind the masks put back."""
    token_ids = batch["token_ids"].copy()
    row, slot = np.nonzero(batch["masked_weights"] > 0)
    token_ids[row, batch["masked_positions"][row, slot]] = batch["masked_labels"][row, slot]
    return token_ids


def next_tokens(rows: Iterator[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Each token and the real one after it, of some batches: [N] and [N]."""
    kept = [(batch["token_ids"], batch["labels"], batch["label_weights"] > 0) for batch in rows]
    return (
        np.concatenate([token_ids[real] for token_ids, _, real in kept]),
        np.concatenate([labels[real] for _, labels, real in kept]),
    )


if __name__ == "__main__":
    define_flags()
    run_program(main)
