"""What is minimised? For each head: how many real targets a batch has, and the sum of the losses over them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerasllm.config import Run

# B batch, T tokens, M masked slots, S pair slots, C classes, K hard negatives of a query

NOT_A_CANDIDATE = -1e9  # a logit of no weight in a softmax, and still a number

Batch = dict[str, Any]
Totals = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Head:
    """One loss: a mean over its own real targets, whatever the padding or the number of replicas.

    Attributes:
      name: of the head in logs.
      weight: factor of its mean loss in the sum over heads.
      targets: batch -> scalar float32, the number of real targets.
      totals: (outputs, batch) -> scalar float32 sums over the real targets, among them "loss" (nats) and "correct".
      training_totals: the same, with the loss that is trained by where it is another one than that which is reported.
    """

    name: str
    weight: float
    targets: Callable[[Batch], Any]
    totals: Callable[[Totals, Batch], Totals]
    training_totals: Callable[[Totals, Batch], Totals] | None = None


def heads_for(run: Run) -> tuple[Head, ...]:
    """The heads of run.objective.task; a head of weight 0 is left out."""
    objective = run.objective
    if objective.task in ("gpt_pretraining", "dialogue"):
        return (_head("causal_lm", 1.0, "logits", "labels", "label_weights"),)
    if objective.task == "text_classification":
        smoothing, consistency = objective.label_smoothing, objective.consistency
        asked = run.data.label_heads().items()
        return tuple(_label_head(name, head.weight, smoothing, consistency) for name, head in asked)
    if objective.task == "text_matching":
        return (_matching_head(run.matching.temperature, run.matching.symmetric),)
    if objective.task == "recommendation":
        return (_head("next_item", 1.0, "logits", "labels", "label_weights"),)
    if objective.task == "reranking":
        return (Head("reranking", 1.0, _sum_of("match_weights"), _reranking_totals),)
    heads = (
        _head("masked_lm", objective.masked_lm_weight, "masked_lm_logits", "masked_labels", "masked_weights"),
        _head("next_sentence", objective.next_sentence_weight, "next_sentence_logits", "pair_labels", "pair_weights"),
        *(_label_head(name, task.weight, objective.label_smoothing) for name, task in run.mix.items()),
    )
    return tuple(head for head in heads if head.weight > 0)


def weighted_cross_entropy(logits: Any, labels: Any, weights: Any, smoothing: float = 0.0) -> Totals:
    """Sums over slots of weight x cross entropy, and of weight x whether the label scores highest.

    Args:
      logits: [..., C] float32, natural log.
      labels: [...] int32.
      weights: [...] float32; 0 = no target.
      smoothing: share e of a label's weight that all C classes divide: the target is (1 - e) onehot + e / C, and the
        loss - sum_c target_c log p_c = cross entropy + e * (logit of the label - mean of the logits).
        Source: Szegedy et al. 2016, section 7.

    Returns: {"loss": scalar, "correct": scalar} float32; of k labels that tie for the highest score each counts 1/k
      (bfloat16 logits tie often enough to flatter an accuracy).
    """
    logits = tf.reshape(logits, [-1, logits.shape[-1]])
    labels, weights = tf.reshape(labels, [-1]), tf.reshape(weights, [-1])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if smoothing:
        losses += smoothing * (tf.gather(logits, labels, batch_dims=1) - tf.reduce_mean(logits, axis=-1))
    fixed = tf.stop_gradient(logits)
    highest = tf.reduce_max(fixed, axis=-1, keepdims=True)  # argmax is many times slower
    is_highest = tf.cast(fixed >= highest, tf.float32)
    correct = tf.math.divide_no_nan(tf.gather(is_highest, labels, batch_dims=1), tf.reduce_sum(is_highest, axis=-1))
    return {"loss": tf.reduce_sum(losses * weights), "correct": tf.reduce_sum(correct * weights)}


def disagreement(logits: Any, weights: Any) -> Any:
    """Sum over neighbours (rows 2k and 2k + 1) of weight x the mean of both Kullback-Leibler divergences, in nats.

    Args:
      logits: [2N, C] float32; neighbours are one row under two draws of dropout.
      weights: [2N] float32, alike in neighbours.

    Source: Liang et al. 2021 (R-Drop), equation 2, counted for each of the two rows.
    """
    pairs = tf.reshape(tf.nn.log_softmax(logits), [-1, 2, logits.shape[-1]])
    first, second = pairs[:, 0], pairs[:, 1]
    symmetric = tf.reduce_sum((tf.exp(first) - tf.exp(second)) * (first - second), axis=-1) / 2
    return tf.reduce_sum(symmetric * weights[::2])


def in_batch_logits(outputs: Totals, batch: Batch, temperature: float) -> Any:
    """Each query against every passage of the batch: cosine / temperature, [B, B * (1 + K)] float32.

    The right passage of query i stands at i * (1 + K). Passages that may be right for a query too (equal texts, or the
    right ones of an equal query) and empty slots are no negatives: they have NOT_A_CANDIDATE. The batch is a replica's
    slice, so its negatives are its own.
    """
    passages = outputs["passage_embeddings"]
    slots = tf.shape(passages)[1]
    logits = tf.matmul(outputs["query_embeddings"], tf.reshape(passages, [-1, passages.shape[-1]]), transpose_b=True)
    places = tf.range(tf.shape(logits)[1])
    is_own = (tf.range(tf.shape(logits)[0]) * slots)[:, None] == places[None]
    is_real = tf.reshape(batch["candidate_weights"] * batch["match_weights"][:, None], [-1]) > 0
    is_same_query = batch["query_group"][:, None] == batch["query_group"][None]
    is_right_of = batch["passage_group"][:, :1] == tf.reshape(batch["passage_group"], [-1])[None]
    is_right = tf.matmul(tf.cast(is_same_query, tf.float32), tf.cast(is_right_of, tf.float32)) > 0
    return tf.where(is_own | (is_real[None] & ~is_right), logits / temperature, NOT_A_CANDIDATE)


def _matching_head(temperature: float, symmetric: bool) -> Head:
    def totals(outputs: Totals, batch: Batch) -> Totals:
        logits, weights = in_batch_logits(outputs, batch, temperature), batch["match_weights"]
        slots = tf.shape(batch["passage_group"])[1]
        rows = tf.range(tf.shape(logits)[0])
        found = weighted_cross_entropy(logits, rows * slots, weights)
        if not symmetric:
            return found
        is_query = (weights > 0)[None] | (rows[:, None] == rows[None])
        back = tf.where(is_query, tf.transpose(logits[:, ::slots]), NOT_A_CANDIDATE)
        back = weighted_cross_entropy(back, rows, weights)
        return {"loss": (found["loss"] + back["loss"]) / 2, "correct": found["correct"]}

    return Head("matching", 1.0, _sum_of("match_weights"), totals)


def _reranking_totals(outputs: Totals, batch: Batch) -> Totals:
    """Softmax over the candidates of each query; the right one stands first, empty slots take no part."""
    logits = tf.where(batch["candidate_weights"] > 0, outputs["scores"], NOT_A_CANDIDATE)
    return weighted_cross_entropy(logits, tf.zeros(tf.shape(logits)[:1], tf.int32), batch["match_weights"])


def _sum_of(weights: str) -> Callable[[Batch], Any]:
    return lambda batch: tf.reduce_sum(batch[weights])


def _label_head(name: str, weight: float, smoothing: float = 0.0, consistency: float = 0.0) -> Head:
    """The head of a classifier; its training smooths the labels, and pulls rows that come in twos together."""
    names = f"{name}_logits", f"{name}_labels", f"{name}_weights"
    plain = _head(name, weight, *names)

    def training_totals(outputs: Totals, batch: Batch) -> Totals:
        logits, labels, weights = outputs[names[0]], batch[names[1]], batch[names[2]]
        sums = weighted_cross_entropy(logits, labels, weights, smoothing)
        if "twice_weights" not in batch:
            return sums
        return {**sums, "loss": sums["loss"] + consistency * disagreement(logits, weights)}

    return dataclasses.replace(plain, training_totals=training_totals)


def _head(name: str, weight: float, logits: str, labels: str, weights: str) -> Head:
    def totals(outputs: Totals, batch: Batch) -> Totals:
        return weighted_cross_entropy(outputs[logits], batch[labels], batch[weights])

    return Head(name, weight, _sum_of(weights), totals)
