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


class _Settings(NamedTuple):
    """What stays the same from word to word."""

    prompt_lengths: Any  # [B]
    limits: Any  # [B]
    num_beams: Any  # [B]
    length_penalty: Any  # [B]
    end_id: int
    vocab_size: int  # V
    most: Any  # K

    def divisor(self, lengths: Any) -> Any:
        """What the log probability of a text of `lengths` [B] tokens, prompt and all, is divided by: [B]."""
        return tf.cast(lengths - self.prompt_lengths, tf.float32) ** self.length_penalty

    def of_own_beams(self, scores: Any) -> Any:
        """Scores [B, K], those that are more than a row has beams taken away."""
        return tf.where(tf.range(self.most) < self.num_beams[:, None], scores, NOTHING)


class _Ended(NamedTuple):
    """The best texts that have ended, in falling order of score."""

    token_ids: Any  # [B, K, S]
    lengths: Any  # [B, K]
    scores: Any  # [B, K] with the length penalty
    has_end: Any  # [B, K] bool


class _Beams(NamedTuple):
    """Texts that go on, in falling order of score, and those that have ended."""

    token_ids: Any  # [B, K, S]
    scores: Any  # [B, K] log probabilities
    lengths: Any  # [B] the same for all beams of a row
    ended: _Ended
    is_done: Any  # [B] bool, nothing that goes on can become better than the best that has ended
    caches: Any  # of B * K rows


class _Candidates(NamedTuple):
    """The best texts with one word more, twice as many as there are beams: half of them may end."""

    token_ids: Any  # [B, 2K, S]
    scores: Any  # [B, 2K] log probabilities
    parents: Any  # [B, 2K] the beam that each goes on from
    is_end: Any  # [B, 2K] bool


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
    most = tf.maximum(tf.reduce_max(num_beams), 1)
    settings = _Settings(lengths, limits, num_beams, length_penalty, end_id, model.backbone.vocab_size, most)
    columns = tf.maximum(tf.reduce_max(limits), tf.shape(prompt_ids)[1] + 1)
    logits, token_ids, caches = read_prompts(model, prompt_ids, lengths, columns)

    def go_on(beams: _Beams) -> tuple[_Beams]:
        newest = tf.gather(beams.token_ids, tf.tile(beams.lengths[:, None, None] - 1, [1, most, 1]), batch_dims=2)
        columns = tf.repeat(beams.lengths - 1, most)
        hidden, caches = model.backbone.extend(tf.reshape(newest, [-1]), beams.caches, columns)
        logits = tf.reshape(model.score(hidden), [tf.shape(prompt_ids)[0], most, settings.vocab_size])
        return (_grown(beams._replace(caches=caches), logits, settings),)

    first = _grown(_beginning(token_ids, caches, settings), tf.tile(logits[:, None], [1, most, 1]), settings)
    shapes = tf.nest.map_structure(lambda part: tf.TensorShape([None] * part.shape.rank), first)
    of_caches = tf.nest.map_structure(lambda cache: tf.TensorShape([None, *cache.shape[1:]]), caches)
    shapes = shapes._replace(caches=of_caches)
    (beams,) = tf.while_loop(lambda beams: ~tf.reduce_all(beams.is_done), go_on, (first,), shape_invariants=(shapes,))
    return Found(*(part[:, 0] for part in beams.ended))


def _beginning(token_ids: Any, caches: Any, settings: _Settings) -> _Beams:
    """The beams before the first word: all are the prompt, so that one of them counts, and none has ended."""
    most, lengths = settings.most, settings.prompt_lengths
    copies = tf.tile(token_ids[:, None], [1, most, 1])
    empty = tf.fill([tf.shape(token_ids)[0], most], NOTHING)
    return _Beams(
        copies,
        tf.where(tf.range(most) == 0, tf.zeros_like(empty), NOTHING),
        lengths,
        _Ended(copies, tf.zeros_like(empty, tf.int32), empty, tf.zeros_like(empty, tf.bool)),
        lengths >= settings.limits,
        tf.nest.map_structure(lambda cache: tf.repeat(cache, most, axis=0), caches),
    )


def _grown(beams: _Beams, logits: Any, settings: _Settings) -> _Beams:
    """A word more for each beam; `logits` is [B, K, V]."""
    lengths, is_last = beams.lengths + 1, beams.lengths + 1 >= settings.limits
    candidates = _candidates(beams, logits, settings)
    ended = _with_ends(beams, candidates, lengths, is_last, settings)
    alive, chosen = tf.math.top_k(tf.where(candidates.is_end, NOTHING, candidates.scores), settings.most)
    alive = settings.of_own_beams(alive)
    best_divisor = tf.maximum(settings.divisor(lengths + 1), settings.divisor(settings.limits))
    parents = tf.gather(candidates.parents, chosen, batch_dims=1)
    rows = tf.reshape(parents + tf.range(tf.shape(parents)[0])[:, None] * settings.most, [-1])
    return _Beams(
        tf.gather(candidates.token_ids, chosen, batch_dims=1),
        alive,
        tf.where(beams.is_done, beams.lengths, lengths),
        ended,
        beams.is_done | is_last | (alive[:, 0] / best_divisor <= ended.scores[:, 0]),
        tf.nest.map_structure(lambda cache: tf.gather(cache, rows), beams.caches),
    )


def _candidates(beams: _Beams, logits: Any, settings: _Settings) -> _Candidates:
    most, vocab_size = settings.most, settings.vocab_size
    log_probabilities = beams.scores[:, :, None] + tf.nn.log_softmax(logits)
    flat = tf.reshape(log_probabilities, [tf.shape(logits)[0], most * vocab_size])
    scores, places = tf.math.top_k(flat, 2 * most)
    scores = tf.where(tf.range(2 * most) < 2 * settings.num_beams[:, None], scores, NOTHING)
    parents, words = places // vocab_size, places % vocab_size
    token_ids = _written(tf.gather(beams.token_ids, parents, batch_dims=1), beams.lengths, words)
    return _Candidates(token_ids, scores, parents, words == settings.end_id)


def _with_ends(beams: _Beams, candidates: _Candidates, lengths: Any, is_last: Any, settings: _Settings) -> _Ended:
    """The best of those that had ended and of the candidates that end now; a row that is done stays as it is.

    Candidates have `lengths` [B] tokens; where `is_last` [B], a row is at its limit and all of them end.
    """
    ends = (candidates.is_end | is_last[:, None]) & (candidates.scores > NOTHING / 2)
    new = _Ended(
        candidates.token_ids,
        tf.zeros_like(candidates.parents) + lengths[:, None],
        tf.where(ends, candidates.scores / settings.divisor(lengths)[:, None], NOTHING),
        candidates.is_end,
    )
    joined = _Ended(*(tf.concat(pair, axis=1) for pair in zip(beams.ended, new, strict=True)))
    scores, best = tf.math.top_k(joined.scores, settings.most)
    chosen = _Ended(*(tf.gather(part, best, batch_dims=1) for part in joined))
    chosen = chosen._replace(scores=settings.of_own_beams(scores))
    return _Ended(*(_where(beams.is_done, old, now) for old, now in zip(beams.ended, chosen, strict=True)))


def _written(token_ids: Any, columns: Any, words: Any) -> Any:
    """[B, M, S] with words [B, M] at a column [B] of each row; where it is full, the last one."""
    columns = tf.minimum(columns, tf.shape(token_ids)[2] - 1)[:, None, None]
    return tf.where(tf.range(tf.shape(token_ids)[2]) == columns, words[:, :, None], token_ids)


def _where(is_first: Any, first: Any, second: Any) -> Any:
    """Rows of `first` where it is said [B], else of `second`; both of any rank."""
    return tf.where(tf.reshape(is_first, [-1] + [1] * (first.shape.rank - 1)), first, second)
