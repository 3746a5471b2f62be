"""How do queries and their passages become batches? With mined negatives, for a dual encoder or a re-ranker."""

# N queries, P passages, B rows, K hard negatives of a query, T tokens

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.data.labelled import LENGTH_MULTIPLE, lengths_of
from kerasllm.data.order import BatchOrder, batches_per_epoch
from kerasllm.data.splits import normal_form
from kerasllm.errors import DataError
from kerasllm.text import Tokenizer, pack_pairs, pack_texts


@dataclasses.dataclass(frozen=True)
class QueryPassages:
    """Queries, the distinct passages, and which passage answers which query.

    Attributes:
      queries: N texts; equal ones may have several right passages.
      passages: P texts, no two equal (see splits.normal_form).
      right: [N] int32, index of the right passage of each query.
      negatives: [N, M] int32, mined passages that do not answer the query; -1: none. M may be 0.
    """

    queries: list[str]
    passages: list[str]
    right: np.ndarray
    negatives: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, indices: Sequence[int] | np.ndarray) -> "QueryPassages":
        """The queries at these places, in this order, with all passages."""
        queries, indices = [self.queries[index] for index in indices], np.asarray(indices, np.int64)
        return dataclasses.replace(self, queries=queries, right=self.right[indices], negatives=self.negatives[indices])

    def query_groups(self) -> np.ndarray:
        """[N] int32; equal queries have equal numbers."""
        return _numbered([normal_form(query) for query in self.queries])

    def all_right(self) -> list[set[int]]:
        """For each query the passages that answer it or an equal query."""
        groups, right = self.query_groups(), defaultdict(set)
        for group, passage in zip(groups, self.right, strict=True):
            right[group].add(int(passage))
        return [right[group] for group in groups]


def join_pairs(queries: Sequence[str], passages: Sequence[str]) -> QueryPassages:
    """A table of pairs (query, right passage); of passages that say the same the first one is kept."""
    right = _numbered([normal_form(passage) for passage in passages])
    _, first = np.unique(right, return_index=True)
    distinct = [passages[place] for place in first]
    return QueryPassages(list(queries), distinct, right, np.zeros([len(right), 0], np.int32))


def matching_batches(
    pairs: QueryPassages, tokenizer: Tokenizer, run: Run, *, training: bool, start_step: int = 0
) -> tf.data.Dataset:
    """Batches for a dual encoder (objective.task text_matching).

    query_token_ids, query_token_type_ids, query_sequence_ids [B, T] int32 of at most matching.query_length tokens;
    passage_... likewise [B, 1 + K, T], the right passage first; query_group [B] and passage_group [B, 1 + K] int32
    (equal numbers: equal texts); candidate_weights [B, 1 + K] float32 (0: no passage) and match_weights [B] float32
    (0: the row only fills up the batch). K is matching.hard_negatives; another K of the mined ones in each epoch.
    """
    settings = run.matching
    groups = tf.constant(pairs.query_groups())

    def pack(places: tf.Tensor, passages: tf.Tensor) -> dict[str, tf.Tensor]:
        queries = pack_texts(tokenizer, tf.gather(pairs.queries, places), None, settings.query_length, LENGTH_MULTIPLE)
        flat = tf.gather(pairs.passages, tf.reshape(tf.maximum(passages, 0), [-1]))
        packed = pack_texts(tokenizer, flat, None, settings.passage_length, LENGTH_MULTIPLE)
        return {
            **{f"query_{key}": rows for key, rows in queries.items()},
            **{f"passage_{key}": _by_query(rows, passages) for key, rows in packed.items()},
            "query_group": tf.gather(groups, places),
            "passage_group": passages,
        }

    return _batches(pairs, tokenizer, run, pack, training, start_step)


def reranking_batches(
    pairs: QueryPassages, tokenizer: Tokenizer, run: Run, *, training: bool, start_step: int = 0
) -> tf.data.Dataset:
    """Batches for a re-ranker (objective.task reranking): each query with its right passage and K negatives.

    token_ids, token_type_ids, sequence_ids [B, 1 + K, T] int32, T at most train.sequence_length, the right passage
    first; candidate_weights and match_weights as in `matching_batches`.

    Raises:
      DataError: no negatives have been mined.
    """
    if not pairs.negatives.shape[1] or not run.matching.hard_negatives:
        raise DataError(
            "a re-ranker learns from negatives: mine them (retrieval.mine_negatives), and let K be 1 or more."
        )

    def pack(places: tf.Tensor, passages: tf.Tensor) -> dict[str, tf.Tensor]:
        queries = tf.repeat(tf.gather(pairs.queries, places), tf.shape(passages)[1])
        flat = tf.gather(pairs.passages, tf.reshape(tf.maximum(passages, 0), [-1]))
        packed = pack_pairs(tokenizer, queries, flat, None, run.train.sequence_length, LENGTH_MULTIPLE)
        return {key: _by_query(rows, passages) for key, rows in packed.items()}

    return _batches(pairs, tokenizer, run, pack, training, start_step)


def _batches(
    pairs: QueryPassages, tokenizer: Tokenizer, run: Run, pack: Any, training: bool, start_step: int
) -> tf.data.Dataset:
    steps, batch = batches_per_epoch(pairs, run, training=training), run.train.global_batch
    lengths = lengths_of(tokenizer, pairs.passages)[pairs.right]
    order = BatchOrder(lengths, run, training, steps)
    num_negatives = min(run.matching.hard_negatives, pairs.negatives.shape[1])

    def choose(step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = order.rows(step)
        places = np.maximum(rows, 0)
        columns = (int(step) // steps * num_negatives + np.arange(num_negatives)) % max(1, pairs.negatives.shape[1])
        passages = np.concatenate([pairs.right[places][:, None], pairs.negatives[places][:, columns]], axis=1)
        return rows, passages.astype(np.int32)

    def of_step(step: tf.Tensor) -> Mapping[str, tf.Tensor]:
        rows, passages = tf.numpy_function(choose, [step], (tf.int64, tf.int32))
        rows, passages = tf.ensure_shape(rows, [batch]), tf.ensure_shape(passages, [batch, 1 + num_negatives])
        return {
            **pack(tf.maximum(rows, 0), passages),
            "candidate_weights": tf.cast(passages >= 0, tf.float32),
            "match_weights": tf.cast(rows >= 0, tf.float32),
        }

    numbers = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max if training else steps)
    return numbers.map(of_step, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _by_query(rows: tf.Tensor, passages: tf.Tensor) -> tf.Tensor:
    """[B * (1 + K), T] -> [B, 1 + K, T]."""
    return tf.reshape(rows, [passages.shape[0], passages.shape[1], tf.shape(rows)[1]])


def _numbered(keys: Sequence[str]) -> np.ndarray:
    """The same number for the same key, counted in the order of their first places; [N] int32."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int32)
