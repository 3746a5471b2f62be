"""How is a finished run used? Loading and saving a workdir as configuration, tokenizer and model; scoring texts."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasllm import data, models, training
from kerasllm.config import Run, load_run
from kerasllm.decisions import ClassDecision, read_decisions
from kerasllm.errors import CheckpointError
from kerasllm.text import Tokenizer, load_tokenizer

DECISIONS_FILE = "decisions.json"  # of a workdir
SHAPES_MULTIPLE = 16  # rows are as long as the longest text, rounded up: few shapes, few graphs
# N texts, C classes of a head


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a workdir holds, ready to use.

    Attributes:
      decisions: of a classifier, by head: what is concluded from its logits; where none was fitted, ClassDecision's
        `undecided`.
    """

    run: Run
    tokenizer: Tokenizer
    model: keras.Model
    decisions: Mapping[str, ClassDecision] = dataclasses.field(default_factory=dict)

    def decision(self, head: str) -> ClassDecision:
        """What is concluded from the logits of a head."""
        found = self.decisions.get(head)
        return found or ClassDecision.undecided(len(self.run.data.label_heads()[head].labels))


def load(workdir: str | os.PathLike[str], which: str = "best") -> Trained:
    """Loads run.yaml, tokenizer, weights and decisions of a workdir, to compute in float32 whatever it was trained in.

    The model computes no padding (TransformerBackbone.skips_padding).

    Args:
      workdir: that `save` or a training program wrote.
      which: "best" (lowest held-out loss) or "newest" checkpoint.

    Raises:
      CheckpointError: the folder is no workdir, or its checkpoint or decisions are damaged or of another shape.
    """
    path = Path(workdir)
    if not (path / "run.yaml").exists():
        raise CheckpointError(f"{path} has no run.yaml. Give the --workdir of a training program.")
    run = load_run(path / "run.yaml")
    tokenizer = load_tokenizer(path / "tokenizer")
    model = models.from_run(run.in_float32(), tokenizer.vocab_size)
    training.restore_weights(model, path, which)
    model.backbone.skips_padding = True
    decisions = read_decisions(path / DECISIONS_FILE) if (path / DECISIONS_FILE).exists() else {}
    _check_decisions(decisions, run, path / DECISIONS_FILE)
    return Trained(run, tokenizer, model, decisions)


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


def classify(trained: Trained, texts: Sequence[str], second: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Calibrated class probabilities [N, C] of texts, by head and in the order of its labels; see `score`."""
    logits = score(trained, texts, second)
    return {head: trained.decision(head).probabilities(each) for head, each in logits.items()}


def score(
    trained: Trained, texts: Sequence[str], second: Sequence[str] | None = None, batch: int = 64
) -> dict[str, np.ndarray]:
    """Logits [N, C] float32 of texts by head of a classifier.

    Args:
      trained: of a text_classification run.
      texts: N texts; what is longer than run.export.sequence_length tokens loses its end.
      second: N texts, where the run is about pairs.
      batch: texts computed together; they are grouped by length, so that little padding is computed.
    """
    heads, longest = trained.run.data.label_heads(), trained.run.export.sequence_length
    columns = [np.array(column, object) for column in (texts, second) if column is not None]
    order = np.argsort(data.lengths_of(trained.tokenizer, texts, second), kind="stable")
    logits = {name: np.zeros([len(texts), len(head.labels)], np.float32) for name, head in heads.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * len(columns))
    def compute(*part: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = data.pack(trained.tokenizer, *part, max_length=longest, multiple_of=SHAPES_MULTIPLE)
        outputs = trained.model(rows, training=False)
        return {name: tf.cast(outputs[f"{name}_logits"], tf.float32) for name in heads}

    for start in range(0, len(texts), batch):
        chosen = order[start : start + batch]
        for name, part in compute(*(tf.constant(column[chosen], tf.string) for column in columns)).items():
            logits[name][chosen] = part.numpy()
    return logits


def _check_decisions(decisions: Mapping[str, ClassDecision], run: Run, path: Path) -> None:
    heads = run.data.label_heads()
    for name, decision in decisions.items():
        if name not in heads or len(decision.thresholds) != len(heads[name].labels):
            raise CheckpointError(f"{path}: the decisions of {name!r} are of another run. Fit them again by training.")
