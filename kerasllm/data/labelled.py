"""How do labelled texts become batches? Each batch addressed by its step, padded to its longest text."""

# B rows, T tokens

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.data.order import BatchOrder, batches_per_epoch
from kerasllm.data.tables import LabelledTexts
from kerasllm.text import Tokenizer, pack_pairs, pack_texts

LENGTH_MULTIPLE = 16  # tokens: batches are padded to a multiple of this, so that few shapes occur


def labelled_batches(
    examples: LabelledTexts, tokenizer: Tokenizer, run: Run, *, training: bool, start_step: int = 0
) -> tf.data.Dataset:
    """Batches of token_ids, token_type_ids, sequence_ids [B, T], and for each head its labels and weights [B].

    They are named `<head>_labels` (int32) and `<head>_weights` (float32; 0 where the row has no label for that head).

    T is the longest text of the batch rounded up to 16, at most run.train.sequence_length.

    Training: endless; the order of an epoch is a function of (run.seed, epoch) and of the texts' lengths, step k is
    always the same batch, the rows after an epoch's last full batch are left out (others each time). Rows of like
    length stand together, so that little padding is computed. Otherwise: once, in the order of the file; the last batch
    is filled up with rows of weight 0.

    With run.objective.consistency, in training each row stands there twice, one below the other, and `twice_weights`
    [2B] float32 says so.
    """
    steps = batches_per_epoch(examples, run, training=training)
    order = BatchOrder(lengths_of(tokenizer, examples.texts, examples.second), run, training, steps)
    texts, labels = [tf.constant(texts) for texts in (examples.texts, examples.second) if texts], _targets(examples)
    batch, twice = run.train.global_batch, training and run.objective.consistency > 0

    def of_step(step: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.ensure_shape(tf.numpy_function(order.rows, [step], tf.int64), [batch])
        rows = tf.repeat(rows, 2 if twice else 1)
        is_real, places = rows >= 0, tf.maximum(rows, 0)
        chosen = [tf.gather(each, places) for each in texts]
        packed = pack(tokenizer, *chosen, max_length=run.train.sequence_length, multiple_of=LENGTH_MULTIPLE)
        targets = {name: tf.gather(each, places) for name, each in labels.items()}
        real = tf.cast(is_real, tf.float32)
        batch_of = packed | {name: each * real if name.endswith("weights") else each for name, each in targets.items()}
        return {**batch_of, "twice_weights": real} if twice else batch_of

    numbers = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max if training else steps)
    return numbers.map(of_step, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def pack(
    tokenizer: Tokenizer, texts: tf.Tensor, second: tf.Tensor | None = None, *, max_length: int, multiple_of: int
) -> dict[str, tf.Tensor]:
    """Rows of texts, or of text pairs where there are second ones, as long as the longest: see pack_texts."""
    if second is None:
        return pack_texts(tokenizer, texts, None, max_length, multiple_of)
    return pack_pairs(tokenizer, texts, second, None, max_length, multiple_of)


def lengths_of(tokenizer: Tokenizer, *texts: Sequence[str] | None) -> np.ndarray:
    """Tokens of each text, of both where there are second ones: [N] int64."""
    given = [tf.constant(part, tf.string, [len(part)]) for part in texts if part is not None]
    return np.sum([tokenizer.tokenize(part).row_lengths().numpy() for part in given], axis=0)


def _targets(examples: LabelledTexts) -> dict[str, tf.Tensor]:
    """`<head>_labels` and `<head>_weights` [N] of all examples."""
    targets = {}
    for name, labels in examples.labels.items():
        classes = np.array(labels, np.int32)
        targets[f"{name}_labels"] = tf.constant(np.maximum(classes, 0))
        targets[f"{name}_weights"] = tf.constant((classes >= 0).astype(np.float32))
    return targets
