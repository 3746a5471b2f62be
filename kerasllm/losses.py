"""What is minimised? For each head: how many real targets a batch has, and the sum of the losses over them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasllm.config import Run

# B batch, T tokens, M masked slots, S pair slots, C classes

Batch = dict[str, Any]
Totals = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """One loss: a mean over its own real targets, whatever the padding or the number of replicas.

    Attributes:
      name: of the head in logs.
      weight: factor of its mean loss in the sum over heads.
      targets: batch -> scalar float32, the number of real targets.
      totals: (outputs, batch) -> scalar float32 sums over the real targets, among them "loss" (nats) and "correct".
    """

    name: str
    weight: float
    targets: Callable[[Batch], Any]
    totals: Callable[[Totals, Batch], Totals]


def heads_for(run: Run) -> tuple[Head, ...]:
    """The heads of run.objective.task; a head of weight 0 is left out."""
    objective = run.objective
    if objective.task == "gpt_pretraining":
        return (_head("causal_lm", 1.0, "logits", "labels", "label_weights"),)
    if objective.task == "text_classification":
        return (_head("label", 1.0, "logits", "labels", "label_weights"),)
    heads = (
        _head("masked_lm", objective.masked_lm_weight, "masked_lm_logits", "masked_labels", "masked_weights"),
        _head("next_sentence", objective.next_sentence_weight, "next_sentence_logits", "pair_labels", "pair_weights"),
    )
    return tuple(head for head in heads if head.weight > 0)


def weighted_cross_entropy(logits: Any, labels: Any, weights: Any) -> Totals:
    """Sums over slots of weight x cross entropy, and of weight x whether the label scores highest.

    Args:
      logits: [..., C] float32, natural log.
      labels: [...] int32.
      weights: [...] float32; 0 = no target.

    Returns: {"loss": scalar, "correct": scalar} float32; of k labels that tie for the highest score each counts 1/k
      (bfloat16 logits tie often enough to flatter an accuracy).
    """
    logits = tf.reshape(logits, [-1, logits.shape[-1]])
    labels, weights = tf.reshape(labels, [-1]), tf.reshape(weights, [-1])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    fixed = tf.stop_gradient(logits)
    highest = tf.reduce_max(fixed, axis=-1, keepdims=True)  # argmax is many times slower
    is_highest = tf.cast(fixed >= highest, tf.float32)
    correct = tf.math.divide_no_nan(tf.gather(is_highest, labels, batch_dims=1), tf.reduce_sum(is_highest, axis=-1))
    return {"loss": tf.reduce_sum(losses * weights), "correct": tf.reduce_sum(correct * weights)}


def _head(name: str, weight: float, logits: str, labels: str, weights: str) -> Head:
    def targets(batch: Batch) -> Any:
        return tf.reduce_sum(batch[weights])

    def totals(outputs: Totals, batch: Batch) -> Totals:
        return weighted_cross_entropy(outputs[logits], batch[labels], batch[weights])

    return Head(name, weight, targets, totals)
