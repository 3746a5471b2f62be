"""Which passages look right and are not? Hard negatives, from the words of BM25 or from the encoder being trained."""

# N queries, P passages, M negatives

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from kerasllm.data import QueryPassages
from kerasllm.retrieval.encoding import embed_texts
from kerasllm.retrieval.lexical import LexicalIndex
from kerasllm.text import Tokenizer
from kerasllm.trained import Trained

BLOCK = 256  # queries scored at once


def mine_by_words(pairs: QueryPassages, tokenizer: Tokenizer, count: int) -> QueryPassages:
    """The pairs with the `count` passages of highest BM25 as each query's negatives."""
    index = LexicalIndex(tokenizer, pairs.passages)
    return _mined(pairs, index.compute_scores, count)


def mine_by_encoder(pairs: QueryPassages, trained: Trained, count: int) -> QueryPassages:
    """The pairs with the `count` nearest passages as each query's negatives (Xiong et al. 2021)."""
    passages = embed_texts(trained, pairs.passages, "passage")
    return _mined(pairs, lambda queries: embed_texts(trained, queries, "query") @ passages.T, count)


def join_negatives(pairs: QueryPassages, *others: QueryPassages) -> QueryPassages:
    """The pairs with the negatives of several minings one after another, each passage once for a query."""
    all_of = np.concatenate([each.negatives for each in (pairs, *others)], axis=1)
    rows = [list(dict.fromkeys(row[row >= 0].tolist())) for row in all_of]
    joined = np.full([len(rows), max(map(len, rows), default=0)], -1, np.int32)
    for place, row in enumerate(rows):
        joined[place, : len(row)] = row
    return dataclasses.replace(pairs, negatives=joined)


def hardest(scores: np.ndarray, right: Sequence[set[int]], count: int) -> np.ndarray:
    """The `count` highest scoring passages of each query that do not answer it.

    Args:
      scores: [N, P], higher is nearer.
      right: for each query the passages that answer it.
      count: M.

    Returns: [N, M] int32, hardest first; -1 where there are fewer.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    chosen = np.full([len(scores), count], -1, np.int32)
    for place, (row, answers) in enumerate(zip(order, right, strict=True)):
        wrong = [passage for passage in row[: count + len(answers)].tolist() if passage not in answers][:count]
        chosen[place, : len(wrong)] = wrong
    return chosen


def _mined(pairs: QueryPassages, score: Callable[[list[str]], np.ndarray], count: int) -> QueryPassages:
    right, blocks = pairs.all_right(), [np.zeros([0, count], np.int32)]
    for start in range(0, len(pairs), BLOCK):
        part = slice(start, start + BLOCK)
        blocks.append(hardest(score(pairs.queries[part]), right[part], count))
    return dataclasses.replace(pairs, negatives=np.concatenate(blocks))
