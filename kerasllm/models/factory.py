"""Which model does a run ask for? From configuration to a built model."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.errors import ConfigError
from kerasllm.models.bert import BertBackbone
from kerasllm.models.gpt import GPTBackbone
from kerasllm.models.matching import CrossEncoder, TextEncoder
from kerasllm.models.tasks import BertPretrainer, GPTCausalLM, TextClassifier

ARCHITECTURE_OF_TASK = {
    "bert_pretraining": "bert",
    "gpt_pretraining": "gpt",
    "dialogue": "gpt",
    "text_classification": "bert",
    "text_matching": "bert",
    "reranking": "bert",
}


def from_run(run: Run, vocab_size: int) -> keras.Model:
    """The model of run.objective.task in run.train.precision, built, with new weights.

    Raises:
      ConfigError: the task needs another architecture, or a classifier has no labels.
    """
    task, options = run.objective.task, run.backbone
    if task not in ARCHITECTURE_OF_TASK:
        raise ConfigError(f"objective.task={task!r} needs a catalogue beside the run: use kerasllm.recommending.load.")
    if options.architecture != ARCHITECTURE_OF_TASK[task]:
        raise ConfigError(
            f"objective.task={task!r} stands on a {ARCHITECTURE_OF_TASK[task]!r} backbone, the run says "
            f"backbone.architecture={options.architecture!r}. Change one of the two."
        )
    backbone_class = BertBackbone if options.architecture == "bert" else GPTBackbone
    fields = options.model_dump(exclude={"architecture"})
    backbone = backbone_class(vocab_size, dtype=run.train.precision, name="backbone", **fields)
    backbone.rematerialize = run.train.rematerialize
    if task == "bert_pretraining":
        labelled = {name: len(task.labels) for name, task in run.mix.items()}
        matches, dropout = run.objective.word_matches, run.objective.classifier_dropout
        return build(BertPretrainer(backbone, matches, labelled, dropout, name="bert_pretrainer"))
    if task in ("gpt_pretraining", "dialogue"):
        return build(GPTCausalLM(backbone, name="gpt_causal_lm"))
    if task == "text_matching":
        return build(TextEncoder(backbone, run.objective.pooling, name="text_encoder"))
    if task == "reranking":
        dropout, pooling = run.objective.classifier_dropout, run.objective.pooling
        return build(CrossEncoder(backbone, dropout, pooling, name="cross_encoder"))
    objective, num_classes = run.objective, {name: len(head.labels) for name, head in run.data.label_heads().items()}
    for name, count in num_classes.items():
        if count < 2:
            place = f"data.heads.{name}.labels" if run.data.heads else "data.labels"
            raise ConfigError(f"{place} has fewer than two labels ({count}); text_classification needs all of them.")
    return build(
        TextClassifier(backbone, num_classes, objective.classifier_dropout, objective.pooling, name="text_classifier")
    )


def build(model: Any) -> Any:
    """Runs the model once on zeros, so that a mistake in its form shows here; returns it."""
    ids = tf.zeros([1, 8], tf.int32)
    model({"token_ids": ids, "masked_positions": tf.zeros([1, 1], tf.int32)})
    return model
