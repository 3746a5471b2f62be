"""What does the model say? Continuations of a prompt, and words for masked slots."""

from typing import Any

import tensorflow as tf

# B batch, P prompt tokens, N new tokens, T = P + N, M masked slots, V vocabulary


def sample_continuations(
    model: Any, prompt_ids: Any, num_tokens: int, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> Any:
    """Continues each prompt by full recomputation of one static shape: one trace, no cache.

    Args:
      model: a GPTCausalLM.
      prompt_ids: [B, P] int32, no padding.
      num_tokens: N, new tokens; P + N may not exceed the backbone's max_length.
      temperature: divides the logits; 0 takes the most probable word.
      top_k: sample among the k most probable words only; 0: among all.
      seed: the same seed gives the same continuation.

    Returns: [B, P + N] int32.

    Raises:
      ValueError: the prompt is empty, or the text would not fit into the position table.
    """
    prompt_ids = tf.convert_to_tensor(prompt_ids, tf.int32)
    batch, prompt_length = prompt_ids.shape
    longest = model.backbone.options.max_length
    if not 0 < prompt_length <= longest - num_tokens:
        raise ValueError(
            f"a prompt of {prompt_length} tokens and num_tokens={num_tokens} do not fit: the prompt needs at least one "
            f"token, and max_length={longest} is all there is. Shorten one of them."
        )

    @tf.function(reduce_retracing=True)
    def next_ids(ids: Any, length: Any) -> Any:
        logits = model({"token_ids": ids}, training=False)["logits"]  # what follows `length` cannot change the past
        return choose(logits[:, length - 1], temperature, top_k, tf.stack([seed, length]))

    ids = tf.pad(prompt_ids, [[0, 0], [0, num_tokens]])
    for length in range(prompt_length, prompt_length + num_tokens):
        column = tf.one_hot([length], prompt_length + num_tokens, dtype=tf.int32)
        ids += next_ids(ids, tf.constant(length))[:, None] * column
    return ids


def choose(logits: Any, temperature: float, top_k: int, seed: Any) -> Any:
    """One word id [B] int32 of logits [B, V], by the seed [2] int32; see sample_continuations."""
    if temperature == 0:
        return tf.argmax(logits, axis=-1, output_type=tf.int32)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        threshold = tf.math.top_k(logits, top_k).values[:, -1:]
        logits = tf.where(logits < threshold, logits.dtype.min, logits)
    return tf.random.stateless_categorical(logits, 1, seed, dtype=tf.int32)[:, 0]


def fill_masks(model: Any, batch: dict[str, Any]) -> Any:
    """The most probable word [B, M] int32 at each masked slot of a BERT pretraining batch."""
    return tf.argmax(model(batch, training=False)["masked_lm_logits"], axis=-1, output_type=tf.int32)
