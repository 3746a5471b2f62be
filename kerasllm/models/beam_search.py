"""Which continuation is the most probable as a whole? Beam search with a length penalty, for each row as it asks."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.models.generation import read_prompts

# B rows, P tokens of the longest prompt, S columns of a cache, K beams of the row that has most, V vocabulary

NOTHING = -1e9  # score of a beam that is none


class Found(NamedTuple):
    """The best continuation of each row.

    Attributes:
      token_ids: [B, S] int32, prompt and continuation; 0 after them.
      lengths: [B] int32, how many these are.
      scores: [B] float32, log probability of the continuation / its number of tokens ** length_penalty.
      is_ended: [B] bool, by its end token; otherwise at its limit.
    """

    token_ids: Any
    lengths: Any
    scores: Any
    is_ended: Any


class _Beams(NamedTuple):
    """Texts that go on, and the best that have ended; both in falling order of score."""

    token_ids: Any  # [B, K, S]
    scores: Any  # [B, K] log probabilities
    lengths: Any  # [B] the same for all beams of a row
    ended_ids: Any  # [B, K, S]
    ended_scores: Any  # [B, K] with the length penalty
    ended_lengths: Any  # [B, K]
    has_end: Any  # [B, K] bool
    is_done: Any  # [B] bool, nothing that goes on can become better than the best that has ended
    caches: Any  # of B * K rows


def search(
    model: Any,
    prompt_ids: Any,
    lengths: Any,
    limits: Any,
    num_beams: Any,
    length_penalty: Any,
    end_id: int,
) -> Found:
    """Follows the most probable beginnings at once, and tells the best whole.

    A beam that ends leaves its place to another one; each row keeps as many that go on, and as many that have ended, as
    it has beams. A row is done when none of the former could still win, or at its limit, where all end.

    Args:
      model: a GPTCausalLM.
      prompt_ids: [B, P] int32, each row from its first column on.
      lengths: [B] int32, at least 1.
      limits: [B] int32, tokens that a row may have, the prompt's included; more than lengths.
      num_beams: [B] int32, at least 1.
      length_penalty: [B] float32; 0 compares log probabilities, 1 those of a token; the more, the longer the texts.
      end_id: the token that ends a text.

    Source: Wu et al. 2016, section 7, with the number of tokens in place of (5 + it) / 6; beams that end as in
    tensor2tensor.
    """
    vocab_size, most = model.backbone.vocab_size, tf.maximum(tf.reduce_max(num_beams), 1)
    columns = tf.maximum(tf.reduce_max(limits), tf.shape(prompt_ids)[1] + 1)
    logits, token_ids, caches = read_prompts(model, prompt_ids, lengths, columns)
    batch = tf.shape(prompt_ids)[0]
    ranks = tf.range(most)

    def penalised(scores: Any, num_tokens: Any) -> Any:
        return scores / (tf.cast(num_tokens, tf.float32) ** length_penalty)[:, None]

    def grow(beams: _Beams, logits: Any) -> _Beams:
        """A word more for each beam; `logits` is [B, K, V]."""
        log_probabilities = beams.scores[:, :, None] + tf.nn.log_softmax(logits)
        scores, places = tf.math.top_k(tf.reshape(log_probabilities, [batch, most * vocab_size]), 2 * most)
        scores = tf.where(tf.range(2 * most) < 2 * num_beams[:, None], scores, NOTHING)
        parents, words = places // vocab_size, places % vocab_size
        grown = _written(tf.gather(beams.token_ids, parents, batch_dims=1), beams.lengths, words)
        lengths, new_tokens = beams.lengths + 1, beams.lengths + 1 - first_lengths
        is_last, is_end = (lengths >= limits)[:, None], words == end_id
        # those that go on
        alive, chosen = tf.math.top_k(tf.where(is_end, NOTHING, scores), most)
        alive = tf.where(ranks < num_beams[:, None], alive, NOTHING)
        rows = tf.reshape(tf.gather(parents, chosen, batch_dims=1) + tf.range(batch)[:, None] * most, [-1])
        # those that have ended
        ends = tf.where((is_end | is_last) & (scores > NOTHING / 2), penalised(scores, new_tokens), NOTHING)
        ended_scores, best = tf.math.top_k(tf.concat([beams.ended_scores, ends], axis=1), most)
        ended_scores = tf.where(ranks < num_beams[:, None], ended_scores, NOTHING)

        def best_of(old: Any, new: Any) -> Any:
            return tf.gather(tf.concat([old, new], axis=1), best, batch_dims=1)

        ended = (
            best_of(beams.ended_ids, grown),
            ended_scores,
            best_of(beams.ended_lengths, tf.zeros_like(words) + lengths[:, None]),
            best_of(beams.has_end, is_end),
        )
        before = (beams.ended_ids, beams.ended_scores, beams.ended_lengths, beams.has_end)
        kept = (_where(beams.is_done, old, new) for old, new in zip(before, ended, strict=True))
        ended_ids, ended_scores, ended_lengths, has_end = kept
        divisor = [tf.cast(count, tf.float32) ** length_penalty for count in (new_tokens + 1, limits - first_lengths)]
        attainable = alive[:, 0] / tf.maximum(*divisor)
        return _Beams(
            tf.gather(grown, chosen, batch_dims=1),
            alive,
            tf.where(beams.is_done, beams.lengths, lengths),
            ended_ids,
            ended_scores,
            ended_lengths,
            has_end,
            beams.is_done | is_last[:, 0] | (attainable <= ended_scores[:, 0]),
            tf.nest.map_structure(lambda cache: tf.gather(cache, rows), beams.caches),
        )

    def go_on(beams: _Beams) -> tuple[_Beams]:
        newest = tf.gather(beams.token_ids, tf.tile(beams.lengths[:, None, None] - 1, [1, most, 1]), batch_dims=2)
        columns = tf.repeat(beams.lengths - 1, most)
        hidden, caches = model.backbone.extend(tf.reshape(newest, [-1]), beams.caches, columns)
        logits = tf.reshape(model.score(hidden), [batch, most, vocab_size])
        return (grow(beams._replace(caches=caches), logits),)

    first_lengths = lengths
    copies = tf.tile(token_ids[:, None], [1, most, 1])
    empty = tf.fill([batch, most], NOTHING)
    first = _Beams(
        copies,
        tf.where(ranks == 0, tf.zeros_like(empty), NOTHING),  # all are the same: the prompt
        lengths,
        copies,
        empty,
        tf.zeros_like(empty, tf.int32),
        tf.zeros_like(empty, tf.bool),
        lengths >= limits,
        tf.nest.map_structure(lambda cache: tf.repeat(cache, most, axis=0), caches),
    )
    first = grow(first, tf.tile(logits[:, None], [1, most, 1]))
    shapes = tf.nest.map_structure(lambda part: tf.TensorShape([None] * part.shape.rank), first)
    of_caches = tf.nest.map_structure(lambda cache: tf.TensorShape([None, *cache.shape[1:]]), caches)
    shapes = shapes._replace(caches=of_caches)
    (beams,) = tf.while_loop(lambda beams: ~tf.reduce_all(beams.is_done), go_on, (first,), shape_invariants=(shapes,))
    best = (beams.ended_ids, beams.ended_lengths, beams.ended_scores, beams.has_end)
    return Found(*(part[:, 0] for part in best))


def _written(token_ids: Any, columns: Any, words: Any) -> Any:
    """[B, M, S] with words [B, M] at a column [B] of each row; where it is full, the last one."""
    columns = tf.minimum(columns, tf.shape(token_ids)[2] - 1)[:, None, None]
    return tf.where(tf.range(tf.shape(token_ids)[2]) == columns, words[:, :, None], token_ids)


def _where(is_first: Any, first: Any, second: Any) -> Any:
    """Rows of `first` where it is said [B], else of `second`; both of any rank."""
    return tf.where(tf.reshape(is_first, [-1] + [1] * (first.shape.rank - 1)), first, second)
