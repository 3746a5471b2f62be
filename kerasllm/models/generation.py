"""What does the model say? Continuations of prompts, token by token with a cache, and words for masked slots."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.models.sampling import Sampling, next_words

# B rows, P tokens of the longest prompt, N new tokens, S columns of a cache, M masked slots, V vocabulary

PROMPT_STEP, COLUMN_STEP = 16, 32  # sizes of prompts and caches are multiples of them
Stops = Callable[[Any, Any], Any]
Forbids = Callable[[Any, Any, Any], Any]


class Decoding(NamedTuple):
    """Where each row is; all that a next call needs to go on.

    Attributes:
      token_ids: [B, S] int32, prompt and new tokens, each row from its first column on; 0 after them.
      lengths: [B] int32, how many these are.
      is_done: [B] bool, the row has ended.
      caches: see GPTBackbone.prefill; without the newest token. `proceed` writes their memory.
    """

    token_ids: Any
    lengths: Any
    is_done: Any
    caches: Any


def begin(
    model: Any, prompt_ids: Any, lengths: Any, num_columns: Any, sampling: Sampling, forbids: Forbids | None = None
) -> Decoding:
    """Reads the prompts and chooses the first new token of each row.

    Args:
      model: a GPTCausalLM.
      prompt_ids: [B, P] int32, each row from its first column on.
      lengths: [B] int32, at least 1.
      num_columns: tokens that a row has room for at least; more than P.
      sampling: of each row.
      forbids: (logits, token_ids, lengths) -> logits, with those of forbidden next words lowered; None: all may come.
    """
    logits, token_ids, caches = read_prompts(model, prompt_ids, lengths, num_columns)
    if forbids is not None:
        logits = forbids(logits, token_ids, lengths)
    state = Decoding(token_ids, lengths, tf.zeros_like(lengths, tf.bool), caches)
    seen = _seen(token_ids, lengths, tf.shape(logits)[1])
    return _append(state, next_words(logits, sampling, lengths, seen))


def read_prompts(model: Any, prompt_ids: Any, lengths: Any, num_columns: Any) -> tuple[Any, Any, Any]:
    """Scores of the first new word [B, V], the tokens [B, S] with 0 after each row, and the caches; see `begin`.

    There are a few columns more than asked for, so that few shapes occur: kernels are prepared for each shape anew.
    """
    longest = model.backbone.options.max_length
    num_columns = _rounded(num_columns, COLUMN_STEP, longest)
    length = tf.shape(prompt_ids)[1]
    prompt_ids = tf.pad(prompt_ids, [[0, 0], [0, _rounded(length, PROMPT_STEP, longest) - length]])
    hidden, caches = model.backbone.prefill(prompt_ids, num_columns)
    logits = model.score(tf.gather(hidden, lengths - 1, batch_dims=1))
    room = num_columns - tf.shape(prompt_ids)[1]
    is_real = tf.sequence_mask(lengths, num_columns)
    return logits, tf.where(is_real, tf.pad(prompt_ids, [[0, 0], [0, room]]), 0), caches


def proceed(
    model: Any,
    state: Decoding,
    limits: Any,
    sampling: Sampling,
    end_ids: tuple[int, ...] = (),
    stops: Stops | None = None,
    num_steps: Any = None,
    forbids: Forbids | None = None,
) -> Decoding:
    """Appends tokens until every row has ended: by a token that ends it, by `stops`, or at its limit.

    A row that has ended keeps its slot and nothing is appended to it.

    Args:
      model: a GPTCausalLM.
      state: from `begin` or `proceed`; it may not be used again, as its caches are written.
      limits: [B] int32, tokens that a row may have, the prompt's included; at most S.
      sampling: of each row.
      end_ids: tokens that end a row; they stay in it.
      stops: (token_ids, lengths) -> [B] bool, rows that end for another reason.
      num_steps: tokens to append at most; None: no limit.
      forbids: as in `begin`.
    """
    vocab_size = model.backbone.vocab_size

    def ends(state: Decoding) -> Any:
        newest = tf.gather(state.token_ids, state.lengths - 1, batch_dims=1)
        is_done = state.is_done | (state.lengths >= limits)
        for end in end_ids:
            is_done |= newest == end
        return is_done if stops is None else is_done | stops(state.token_ids, state.lengths)

    def is_going_on(step: Any, token_ids: Any, lengths: Any, is_done: Any, seen: Any, caches: Any) -> Any:
        return ~tf.reduce_all(is_done) & (step < steps)

    def loop(one_row: bool) -> Decoding:
        def append(step: Any, token_ids: Any, lengths: Any, is_done: Any, seen: Any, caches: Any) -> Any:
            newest = tf.gather(token_ids, lengths - 1, batch_dims=1)
            hidden, caches = model.backbone.extend(newest, caches, lengths - 1, one_row)
            seen = tf.tensor_scatter_nd_update(seen, _places(newest), tf.ones_like(is_done))
            logits = model.score(hidden)
            if forbids is not None:
                logits = forbids(logits, token_ids, lengths)
            words = next_words(logits, sampling, lengths, seen)
            state = _append(Decoding(token_ids, lengths, is_done, caches), words)
            return step + 1, state.token_ids, state.lengths, ends(state), seen, state.caches

        seen = _seen(state.token_ids, state.lengths, vocab_size)
        first = (tf.constant(0), state.token_ids, state.lengths, ends(state), seen, state.caches)
        _, token_ids, lengths, is_done, _, caches = tf.while_loop(is_going_on, append, first)
        return Decoding(token_ids, lengths, is_done, caches)

    steps = tf.shape(state.token_ids)[1] if num_steps is None else num_steps
    if model.backbone.compute_dtype != "float32":  # one_row is for float32 alone, see Projection
        return loop(one_row=False)
    return tf.cond(tf.shape(state.lengths)[0] == 1, lambda: loop(one_row=True), lambda: loop(one_row=False))


def sample_continuations(
    model: Any, prompt_ids: Any, num_tokens: int, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> Any:
    """Continues each prompt by as many tokens, whatever they are.

    Args:
      model: a GPTCausalLM.
      prompt_ids: [B, P] int32, no padding.
      num_tokens: N, new tokens; P + N may not exceed the backbone's max_length.
      temperature: divides the logits; 0 takes the most probable word.
      top_k: sample among the k most probable words only; 0: among all.
      seed: the same seed gives the same continuation; rows have seeds of their own.

    Returns: [B, P + N] int32.

    Raises:
      ValueError: the prompt is empty, or the text would not fit into the position table.
    """
    prompt_ids = tf.convert_to_tensor(prompt_ids, tf.int32)
    batch, length = prompt_ids.shape
    longest = model.backbone.options.max_length
    if not 0 < length <= longest - num_tokens:
        raise ValueError(
            f"a prompt of {length} tokens and num_tokens={num_tokens} do not fit: the prompt needs at least one "
            f"token, and max_length={longest} is all there is. Shorten one of them."
        )

    @tf.function
    def decode(prompt_ids: Any) -> Any:
        sampling = Sampling(
            temperature=tf.fill([batch], float(temperature)),
            top_k=tf.fill([batch], top_k),
            top_p=tf.ones([batch]),
            repetition_penalty=tf.ones([batch]),
            seed=tf.range(batch, dtype=tf.int64) + seed * batch,
        )
        limits = tf.fill([batch], length + num_tokens)
        state = begin(model, prompt_ids, tf.fill([batch], length), length + num_tokens, sampling)
        return proceed(model, state, limits, sampling).token_ids[:, : length + num_tokens]

    return decode(prompt_ids)


def fill_masks(model: Any, batch: dict[str, Any]) -> Any:
    """The most probable word [B, M] int32 at each masked slot of a BERT pretraining batch."""
    return tf.argmax(model(batch, training=False)["masked_lm_logits"], axis=-1, output_type=tf.int32)


def _rounded(size: Any, step: int, longest: int) -> Any:
    """The next multiple of `step`, but no more than there are positions."""
    return tf.minimum(-(-size // step) * step, longest)


def _append(state: Decoding, words: Any) -> Decoding:
    """The state with a word more in each row that has not ended."""
    is_done, last = state.is_done, tf.shape(state.token_ids)[1] - 1
    columns = tf.minimum(state.lengths, last)  # a row that has ended may be full
    there = tf.gather(state.token_ids, columns, batch_dims=1)
    token_ids = tf.tensor_scatter_nd_update(state.token_ids, _places(columns), tf.where(is_done, there, words))
    return Decoding(token_ids, state.lengths + tf.cast(~is_done, tf.int32), is_done, state.caches)


def _places(columns: Any) -> Any:
    """[B] -> [B, 2]: the place of a column in each row."""
    return tf.stack([tf.range(tf.shape(columns)[0]), columns], axis=-1)


def _seen(token_ids: Any, lengths: Any, vocab_size: Any) -> Any:
    """[B, V] bool: words among the first `lengths` tokens of each row."""
    batch, length = tf.unstack(tf.shape(token_ids))
    rows = tf.tile(tf.range(batch)[:, None], [1, length])
    is_real = tf.cast(tf.sequence_mask(lengths, length), tf.int32)
    return tf.scatter_nd(tf.stack([rows, token_ids], axis=-1), is_real, [batch, vocab_size]) > 0
