"""How is a finished run used? Loading and saving a workdir as configuration, tokenizer and model; scoring texts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasllm import models, training
from kerasllm.config import Run, load_run
from kerasllm.errors import CheckpointError
from kerasllm.text import Tokenizer, load_tokenizer, pack_texts

SHAPES_MULTIPLE = 16  # rows are as long as the longest text, rounded up: few shapes, few graphs
# N texts, C classes


@dataclass(frozen=True)
class Trained:
    """What a workdir holds, ready to use."""

    run: Run
    tokenizer: Tokenizer
    model: keras.Model


def load(workdir: str | os.PathLike[str], which: str = "best") -> Trained:
    """Loads run.yaml, tokenizer and weights of a workdir, to compute in float32 whatever the run was trained in.

    Args:
      workdir: that `save` or a training program wrote.
      which: "best" (lowest held-out loss) or "newest" checkpoint.

    Raises:
      CheckpointError: the folder is no workdir, or its checkpoint is damaged or of another shape.
    """
    path = Path(workdir)
    if not (path / "run.yaml").exists():
        raise CheckpointError(f"{path} has no run.yaml. Give the --workdir of a training program.")
    run = load_run(path / "run.yaml")
    tokenizer = load_tokenizer(path / "tokenizer")
    in_float32 = run.model_copy(update={"train": run.train.model_copy(update={"precision": "float32"})})
    model = models.from_run(in_float32, tokenizer.vocab_size)
    training.restore_weights(model, path, which)
    return Trained(run, tokenizer, model)


def save(workdir: str | os.PathLike[str], run: Run, tokenizer: Tokenizer, model: keras.Model) -> Path:
    """Writes a workdir that `load` and the export read: run.yaml, tokenizer/ and a checkpoint at step 0.

    Raises:
      ConfigError: the folder cannot be written, or belongs to another configuration.
      CheckpointError: the weights cannot be written.
    """
    folder = training.prepare_workdir(workdir, run)
    tokenizer.save(folder.tokenizer)
    training.CheckpointFolder(folder.checkpoints).save(0, model, None, run)
    return folder.path


def classify(trained: Trained, texts: Sequence[str], batch: int = 64) -> np.ndarray:
    """Class probabilities of texts.

    Args:
      trained: of a text_classification run.
      texts: N texts; what is longer than run.export.sequence_length tokens loses its end.
      batch: texts computed together; they are grouped by length, so that little padding is computed.

    Returns:
      [N, C] float32 in the order of run.data.labels.
    """
    lengths = trained.tokenizer.tokenize(tf.constant(texts, tf.string, [len(texts)])).row_lengths().numpy()
    order = np.argsort(lengths, kind="stable")
    probabilities = np.zeros([len(texts), len(trained.run.data.labels)], np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def score(part: tf.Tensor) -> tf.Tensor:
        rows = pack_texts(trained.tokenizer, part, None, trained.run.export.sequence_length, SHAPES_MULTIPLE)
        return tf.nn.softmax(trained.model(rows, training=False)["logits"])

    for start in range(0, len(texts), batch):
        chosen = order[start : start + batch]
        probabilities[chosen] = score(tf.constant([texts[index] for index in chosen])).numpy()
    return probabilities
