"""keras-nlp's language models with the sizes of a run, trained by its own `fit`: BertMaskedLM and GPT2CausalLM."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kerasllm.config import Run

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerasllm.text import Tokenizer

Batch = dict[str, np.ndarray]
# B rows, T tokens, M masked slots


def make_model(
    run: Run, vocab_size: int, learning_rate: "keras.optimizers.schedules.LearningRateSchedule | None" = None
) -> "keras.Model":
    """The compiled model: AdamW with a global clip, exact sparse cross-entropy on logits, no XLA (slower on CPU).

    Args:
      run: sizes, precision and optimizer.
      vocab_size: rows of the embedding table.
      learning_rate: a schedule instead of the run's highest rate.
    """
    import keras
    import keras_hub

    options, length = run.backbone, run.train.sequence_length
    sizes = {
        "vocabulary_size": vocab_size,
        "num_layers": options.num_layers,
        "num_heads": options.num_heads,
        "hidden_dim": options.hidden_dim,
        "intermediate_dim": options.intermediate_dim or 4 * options.hidden_dim,
        "dropout": options.dropout,
        "max_sequence_length": length,
        "dtype": run.train.precision,
    }
    if run.objective.task == "bert_pretraining":
        backbone = keras_hub.models.BertBackbone(num_segments=2, **sizes)
        model = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    else:
        backbone = keras_hub.models.GPT2Backbone(**sizes)
        model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            learning_rate or run.optimizer.peak_learning_rate,
            weight_decay=run.optimizer.weight_decay,
            epsilon=run.optimizer.epsilon,
            global_clipnorm=run.optimizer.clip_norm,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        jit_compile=False,
    )
    return model


def masked_paragraphs(paragraphs: Sequence[str], tokenizer: "Tokenizer", run: Run, repeats: bool) -> "tf.data.Dataset":
    """Paragraphs as keras-nlp's own preprocessor makes them: one a row, cut and padded to T, masked anew each time."""
    import keras_hub
    import tensorflow as tf

    special = tokenizer.special
    words = list(tokenizer.words)
    own = keras_hub.models.BertTokenizer(
        vocabulary=words, lowercase=False, special_tokens=[words[number] for number in (special.cls, special.sep)]
    )
    preprocess = keras_hub.models.BertMaskedLMPreprocessor(
        own,
        sequence_length=run.train.sequence_length,
        mask_selection_rate=run.objective.mask_share,
        mask_selection_length=int(run.train.sequence_length * run.objective.mask_share) + 1,
    )
    rows = tf.data.Dataset.from_tensor_slices(list(paragraphs))
    rows = rows.repeat() if repeats else rows
    batches = rows.batch(run.train.global_batch, drop_remainder=True)
    return batches.map(preprocess, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def as_rows(batch: Batch) -> tuple[Batch, np.ndarray, np.ndarray]:
    """One of our batches as its models take it: inputs, labels and weights, [B, M] of BERT and [B, T] of GPT."""
    padding_mask = (batch["sequence_ids"] > 0).astype(np.int32)
    if "masked_labels" not in batch:
        inputs = {"token_ids": batch["token_ids"], "padding_mask": padding_mask}
        return inputs, batch["labels"], batch["label_weights"]
    inputs = {
        "token_ids": batch["token_ids"],
        "segment_ids": batch["token_type_ids"],
        "padding_mask": padding_mask,
        "mask_positions": batch["masked_positions"],
    }
    return inputs, batch["masked_labels"], batch["masked_weights"]
