"""Which of some given texts does the model take, and what does it think of one? Their probabilities after a prompt."""

from typing import Any

import tensorflow as tf

from kerasllm.models.generation import read_prompts

# B rows, P tokens of the longest prompt, N choices of a row, C tokens of the longest, V vocabulary


def score_choices(model: Any, prompt_ids: Any, lengths: Any, choice_ids: Any, choice_lengths: Any) -> Any:
    """Log probabilities [B, N] float32 of each choice after the row's prompt; 0 of one without tokens.

    Args:
      model: a GPTCausalLM.
      prompt_ids: [B, P] int32, each row from its first column on.
      lengths: [B] int32, at least 1.
      choice_ids: [B, N, C] int32, each choice from its first column on; C at least 1.
      choice_lengths: [B, N] int32.
    """
    num_choices, longest = tf.shape(choice_ids)[1], tf.shape(choice_ids)[2]
    columns = tf.shape(prompt_ids)[1] + longest
    logits, _, caches = read_prompts(model, prompt_ids, lengths, columns)
    words, sizes = tf.reshape(choice_ids, [-1, longest]), tf.reshape(choice_lengths, [-1])
    starts = tf.repeat(lengths, num_choices)

    def log_probability(logits: Any, column: Any) -> Any:
        """Of the choices' words at a column, of B * N rows; 0 behind their ends."""
        known = tf.gather(tf.nn.log_softmax(logits), words[:, column], batch_dims=1)
        return tf.where(column < sizes, known, 0.0)

    def read_on(column: Any, total: Any, caches: Any) -> tuple[Any, Any, Any]:
        last = tf.shape(caches[0][0])[2] - 1  # for choices that have ended
        hidden, caches = model.backbone.extend(words[:, column], caches, tf.minimum(starts + column, last))
        return column + 1, total + log_probability(model.score(hidden), column + 1), caches

    first = log_probability(tf.repeat(logits, num_choices, axis=0), 0)
    caches = tf.nest.map_structure(lambda cache: tf.repeat(cache, num_choices, axis=0), caches)
    _, total, _ = tf.while_loop(
        lambda column, *_: column < longest - 1,
        read_on,
        (tf.constant(0), first, caches),
        parallel_iterations=1,  # the words are known before, and caches may not be written before they are read
    )
    return tf.reshape(total, tf.shape(choice_lengths))


def mean_log_probabilities(model: Any, token_ids: Any, starts: Any, lengths: Any) -> Any:
    """What the model itself thinks of each row's tokens behind its start, on average: [B] float32; 0 of none.

    Args:
      model: a GPTCausalLM.
      token_ids: [B, S] int32, each row from its first column on.
      starts: [B] int32, at least 1, tokens that are given.
      lengths: [B] int32, tokens of each row.
    """
    num_columns = tf.shape(token_ids)[1]
    hidden, _ = model.backbone.prefill(token_ids, num_columns)
    longest = tf.maximum(tf.reduce_max(lengths - starts), 1)
    columns = starts[:, None] + tf.range(longest)  # of the tokens that are judged, each by the state before it
    is_judged = columns < lengths[:, None]
    columns = tf.minimum(columns, num_columns - 1)
    scores = tf.nn.log_softmax(model.score(tf.gather(hidden, tf.maximum(columns - 1, 0), batch_dims=1)))
    known = tf.gather(scores, tf.gather(token_ids, columns, batch_dims=1), batch_dims=2)
    total = tf.reduce_sum(tf.where(is_judged, known, 0.0), axis=1)
    return tf.math.divide_no_nan(total, tf.cast(lengths - starts, tf.float32))
