"""What does bfloat16 change for a GPT?"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from kerasllm.models import GPTCausalLM
from kerasllm.text import Tokenizer

BATCH = 16  # texts computed together for the comparison


@dataclasses.dataclass(frozen=True)
class Narrowing:
    """What bfloat16 changed for some texts.

    Attributes:
      num_tokens: that were predicted.
      float32_loss: mean cross-entropy of a token.
      bfloat16_loss: the same in bfloat16.
      words_changed: predictions whose most probable word is another one.
    """

    num_tokens: int
    float32_loss: float
    bfloat16_loss: float
    words_changed: int


def compare_losses(model: GPTCausalLM, narrow: GPTCausalLM, tokenizer: Tokenizer, texts: Sequence[str]) -> Narrowing:
    """Scores of two models for the same texts, each cut at the longest that they can read."""
    longest = model.backbone.options.max_length

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def scores(part: tf.Tensor) -> list[tf.Tensor]:
        ids = tokenizer.tokenize(part)[:, : longest - 1]
        begins = tf.fill([tf.shape(part)[0], 1], tokenizer.special.bos)
        ids = tf.concat([begins, ids], axis=1)
        lengths, ids = ids.row_lengths() - 1, ids.to_tensor()
        is_real = tf.sequence_mask(lengths, tf.shape(ids)[1] - 1)
        both = [one({"token_ids": ids})["logits"][:, :-1] for one in (model, narrow)]
        losses = [tf.nn.sparse_softmax_cross_entropy_with_logits(ids[:, 1:], logits) for logits in both]
        is_other = tf.argmax(both[0], axis=-1) != tf.argmax(both[1], axis=-1)
        counted = [*losses, tf.cast(is_other, tf.float32), tf.ones_like(losses[0])]
        return [tf.reduce_sum(tf.boolean_mask(one, is_real)) for one in counted]

    parts = [scores(tf.constant([*texts[start : start + BATCH]])) for start in range(0, len(texts), BATCH)]
    exact, rounded, changed, tokens = (float(sum(column)) for column in zip(*parts, strict=True))
    count = max(tokens, 1.0)
    return Narrowing(int(tokens), exact / count, rounded / count, int(changed))


def narrowing_section(found: Narrowing) -> list[str]:
    """The section of a model card on what bfloat16 changed."""
    return [
        "## bfloat16",
        "",
        "Weights are stored and products computed in bfloat16.",
        "",
        "| tokens | loss in float32 | in bfloat16 | most probable word is another |",
        "| --- | --- | --- | --- |",
        f"| {found.num_tokens:,} | {found.float32_loss:.4f} | {found.bfloat16_loss:.4f} | {found.words_changed:,} |",
        "",
    ]
