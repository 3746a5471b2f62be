"""Is the right answer found among all answers of a bank's FAQ? BM25, an encoder as it is, and ours.

    python -m benchmarks.bank_faq --data DIR/bank_faq/faq.tsv --init_from "$(scripts/get_minilm)" --workdir runs/faq

Questions are dealt to train, validation and test by a hash of their text, so that equal questions stay together. Equal
answers count as one, and a question that was given several answers has several right ones: its rank is the best of
theirs. All answers are candidates, those of the held-out questions too; held-out questions are seen by nothing.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import run_program
from benchmarks import rank_table

if TYPE_CHECKING:
    import numpy as np

    from kerasllm.data import QueryPassages

FLAGS = flags.FLAGS
SHARES = {"test": 0.2, "validation": 0.1}
NUM_NEGATIVES = 8  # mined for each question by words, and as many by the encoder


def define_flags() -> None:
    """Says where from, where to, and what is measured."""
    rank_table.define_table_flags("configs/customer_service/bank_faq.yaml", "faq.tsv with columns question and answer.")


def main() -> None:
    """Trains what is not trained, prints the table, and writes it as JSON."""
    import numpy as np

    from benchmarks.baselines import bm25
    from kerasllm import retrieval, training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    pairs = read_faq(FLAGS.data)
    parts = np.array(parts_of(pairs))
    train, validation, asked = (np.flatnonzero(parts == part) for part in ("train", "validation", FLAGS.part))
    past = pairs.take(train if FLAGS.part == "validation" else np.flatnonzero(parts != "test"))
    questions = pairs.take(asked)
    start = retrieval.untuned(rank_table.run_of("matching"), FLAGS.init_from)
    by_words, as_it_is = bm25.scores(pairs.passages, questions.queries), cosines(start, pairs)
    ways = {
        "BM25, question to answer": by_words,
        "BM25, question to answer and past questions": bm25.scores(with_questions(past), questions.queries),
        "encoder as it is": as_it_is[asked],
    }
    near = with_negatives(pairs, as_it_is, NUM_NEGATIVES)
    mined = retrieval.join_negatives(retrieval.mine_by_words(pairs, start.tokenizer, NUM_NEGATIVES), near)
    encoder = rank_table.tuned("matching", mined.take(train), mined.take(validation))
    scores, share = cosines(encoder, pairs), encoder.run.assistant.dense_share
    ways["tuned encoder"] = scores[asked]
    ways["tuned encoder and BM25"] = fused = rank_table.with_bm25(scores[asked], by_words, share)
    if FLAGS.rerank:
        mined = with_negatives(pairs, scores, 2 * NUM_NEGATIVES)
        cross = rank_table.tuned("reranking", mined.take(train), mined.take(validation))
        ways["tuned encoder and BM25, re-ranked"] = reranked(fused, cross, questions)
    rank_table.report({way: ranks_of(scores, questions) for way, scores in ways.items()})


def read_faq(path: str) -> "QueryPassages":
    """All questions and distinct answers, without the words of the page that end an answer."""
    from kerasllm.data import join_pairs, read_columns

    rows = [fields for _, fields in read_columns(path, ["question", "answer"])]
    answers = [fields["answer"].strip().removesuffix("View more").strip() for fields in rows]
    return join_pairs([fields["question"] for fields in rows], answers)


def parts_of(pairs: "QueryPassages") -> list[str]:
    """The part of each row: equal questions share one."""
    from kerasllm.data import normal_form, split_by_text

    dealt = split_by_text(range(len(pairs)), lambda row: pairs.queries[row], SHARES)
    part_of = {normal_form(pairs.queries[row]): name for name, rows in dealt.items() for row in rows}
    return [part_of[normal_form(query)] for query in pairs.queries]


def with_questions(past: "QueryPassages") -> list[str]:
    """Every answer with the past questions that it has answered."""
    documents = list(past.passages)
    for query, passage in zip(past.queries, past.right, strict=True):
        documents[passage] += f" {query}"
    return documents


def with_negatives(pairs: "QueryPassages", scores: "np.ndarray", count: int) -> "QueryPassages":
    """The pairs with the `count` wrong passages of highest score [queries, passages] as negatives."""
    from kerasllm.retrieval import hardest

    return dataclasses.replace(pairs, negatives=hardest(scores, pairs.all_right(), count))


def cosines(trained: Any, pairs: "QueryPassages") -> "np.ndarray":
    """[queries, passages] float32."""
    from kerasllm.retrieval import embed_texts

    return embed_texts(trained, pairs.queries, "query") @ embed_texts(trained, pairs.passages, "passage").T


def reranked(scores: "np.ndarray", cross: Any, pairs: "QueryPassages") -> "np.ndarray":
    """Scores in which the first `matching.candidates` of each query stand above all, by both models' logits."""
    import numpy as np

    from kerasllm.retrieval import score_pairs

    count, temperature = cross.run.matching.candidates, cross.run.matching.temperature
    first = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    queries = [query for query in pairs.queries for _ in range(count)]
    logits = score_pairs(cross, queries, [pairs.passages[place] for place in first.ravel()]).reshape(first.shape)
    together = logits + np.take_along_axis(scores, first, axis=1) / temperature
    result = scores.copy()
    np.put_along_axis(result, first, 1e3 + together, axis=1)
    return result


def ranks_of(scores: "np.ndarray", pairs: "QueryPassages") -> "np.ndarray":
    """The best rank of a right passage for each query; a wrong one of the same score stands before it."""
    import numpy as np

    ranks = []
    for row, right in zip(scores, pairs.all_right(), strict=True):
        is_right = np.isin(np.arange(len(row)), list(right))
        ranks.append(1 + int((row[~is_right] >= row[is_right].max()).sum()))
    return np.array(ranks)


if __name__ == "__main__":
    define_flags()
    run_program(main)
