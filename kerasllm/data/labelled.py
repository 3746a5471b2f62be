"""How do labelled texts become batches? Each batch addressed by its step, padded to its longest text."""

# B rows, T tokens

import collections
import math
import threading

import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.data.tables import LabelledTexts
from kerasllm.text import Tokenizer, pack_texts

LENGTH_MULTIPLE = 16  # tokens: batches are padded to a multiple of this, so that few shapes occur
BUCKETED_BATCHES = 32  # batches whose rows are sorted by length among themselves; the rest of the order stays random


def labelled_batches(
    examples: LabelledTexts, tokenizer: Tokenizer, run: Run, *, training: bool, start_step: int = 0
) -> tf.data.Dataset:
    """Batches of token_ids, token_type_ids, sequence_ids [B, T], labels [B] int32 and label_weights [B] float32.

    T is the longest text of the batch rounded up to 16, at most run.train.sequence_length.

    Training: endless; the order of an epoch is a function of (run.seed, epoch) and of the texts' lengths, step k is
    always the same batch, the rows after an epoch's last full batch are left out (others each time). Rows of like
    length stand together, so that little padding is computed. Otherwise: once, in the order of the file; the last batch
    is filled up with rows of weight 0.
    """
    steps = labelled_steps_per_epoch(examples, run, training=training)
    order = _Order(tokenizer.tokenize(tf.constant(examples.texts)).row_lengths().numpy(), run, training, steps)
    texts, labels = tf.constant(examples.texts), tf.constant(examples.labels, tf.int32)
    batch = run.train.global_batch

    def of_step(step: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.ensure_shape(tf.numpy_function(order.rows, [step], tf.int64), [batch])
        is_real, places = rows >= 0, tf.maximum(rows, 0)
        packed = pack_texts(
            tokenizer, tf.gather(texts, places), None, max_length=run.train.sequence_length, multiple_of=LENGTH_MULTIPLE
        )
        return {**packed, "labels": tf.gather(labels, places), "label_weights": tf.cast(is_real, tf.float32)}

    numbers = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max if training else steps)
    return numbers.map(of_step, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def labelled_steps_per_epoch(examples: LabelledTexts, run: Run, *, training: bool) -> int:
    """Batches of one epoch: full ones in training, all of them otherwise."""
    batch = run.train.global_batch
    return max(1, len(examples) // batch) if training else math.ceil(len(examples) / batch)


class _Order:
    """Which examples belong to a step."""

    def __init__(self, lengths: np.ndarray, run: Run, training: bool, steps: int) -> None:
        self._lengths, self._count, self._steps = lengths, len(lengths), steps
        self._batch, self._seed = run.train.global_batch, run.seed
        self._training, self._lock = training, threading.Lock()
        self._orders: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def rows(self, step: int) -> np.ndarray:
        """[B] int64; -1 where the batch is only filled up."""
        if not self._training:
            rows = np.arange(step * self._batch, (step + 1) * self._batch)
            return np.where(rows < self._count, rows, -1)
        epoch, step = divmod(int(step), self._steps)
        return self._order(epoch)[np.arange(step * self._batch, (step + 1) * self._batch) % self._count]

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                self._orders[epoch] = self._shuffled(np.random.default_rng([self._seed, epoch, 3]))
                while len(self._orders) > 2:
                    self._orders.popitem(last=False)
            return self._orders[epoch]

    def _shuffled(self, random: np.random.Generator) -> np.ndarray:
        """A random order whose full batches hold rows of like length, and come in a random order themselves."""
        order = random.permutation(self._count)
        full = self._count // self._batch * self._batch
        window = self._batch * BUCKETED_BATCHES
        parts = [order[start : min(start + window, full)] for start in range(0, full, window)]
        batches = [part[np.argsort(self._lengths[part], kind="stable")].reshape(-1, self._batch) for part in parts]
        if not batches:
            return order
        return np.concatenate([random.permutation(np.concatenate(batches)).reshape(-1), order[full:]])
