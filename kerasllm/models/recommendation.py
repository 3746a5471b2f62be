"""How well does an item fit a user's history? Attention over the history and a ranker over named features."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.layers import Projection, TransformerBlock, attention_penalty, draw_seed, drop, make_norm
from kerasllm.layers.initializers import initializer_for
from kerasllm.layers.projection import dimensions

# B rows, T history, C candidates, I items, E width of a text embedding, D hidden width, L levels, N features
# Item numbers count from 1; 0 is no item.

NUM_LEVELS = 4  # none, disliked, neutral, liked
LEVEL_WEIGHTS = (0.0, 0.0, 0.3, 1.0)  # what an event of each level counts at first
NEWEST_SHARE, HALF_LIFE = 0.9, 5.0  # what the newest event counts more at first, and after how many events half of it
RANKER_DIM = 32
IMPOSSIBLE = -1e9  # score of no item
TABLES = ("text", "categories", "released", "appeal", "slots", "affinity", "side", "is_cold")
FEATURES = (
    "sequence",  # product of user state and item vector (Kang & McAuley 2018)
    "liked_together",  # affinities, summed over the history
    "seen_together",
    "liked_soon_afterwards",
    "text",  # cosine to the mean text of what was liked
    "categories",  # share of the candidate's categories in what was liked
    "same_period",  # minus the decades between the candidate's release and the mean release of what was liked
    "popularity",
    "recent_popularity",
    "age",
    "prior",  # popularity, times k / (k + events of the user)
    "is_cold",
    "num_events",
    "category_popularity",  # of the other items of its categories
    "appeal",  # what text, categories and release let expect of how often an item is liked
)
FIRST_WEIGHTS = {
    "sequence": 1.0,
    "liked_together": 1.0,
    "seen_together": 1.0,
    "liked_soon_afterwards": 0.3,
    "text": 0.5,
    "categories": 0.5,
}
# What speaks for a new item, on top of FIRST_WEIGHTS: a few hundred steps move a weight by a few tenths only.
FIRST_COLD_WEIGHTS = {"text": 40.0, "categories": 4.0, "same_period": 0.7, "appeal": 5.0}


@keras.saving.register_keras_serializable(package="kerasllm")
class Recommender(keras.Model):
    """Scores candidates for the next event of a history; new items by their text, new users by a fading prior.

    Args:
      run: `backbone` is the transformer over the history (causal), `recommendation` the rest.
      tables: by the names of TABLES, arrays as in data.ItemTables. They are computed, not trained: no weights, so that
        a checkpoint fits a longer catalogue too.
      num_trained: items with an embedding of their own, the first of the catalogue.

    Shapes:
      history, history_levels  [B, T] int32, the oldest event first, 0 behind the newest
      candidates               [B, C] int32
      affinity, side, is_cold  [B, T, C, 3], [B, C, 4], [B, C] float32; without them, looked up in the tables
      candidate_bias           [B, C] float32, added to the logits in training: minus the log of how often a candidate
                               was to be expected in the sample (Bengio & Senecal 2008)
      returns                  {"logits": [B, C] float32}

    Source: Kang & McAuley 2018 (SASRec); dropping whole id embeddings for new items: Volkovs et al. 2017.
    """

    def __init__(self, run: Run, tables: dict[str, Any], num_trained: int, name: str | None = None) -> None:
        super().__init__(name=name, dtype=run.train.precision)
        self.options, self.settings = run.backbone, run.recommendation
        self.num_trained = num_trained
        self.tables = {key: tf.Variable(tables[key], trainable=False, name=key) for key in TABLES}
        width, policy = self.options.hidden_dim, self.dtype_policy
        small = initializer_for(self.options)  # the untrained sequence must not drown the affinities
        self.text_projection = Projection(width, initializer=small, name="text_projection", dtype=policy)
        self.blocks = [
            TransformerBlock(self.options, index, name=f"block_{index}", dtype=policy)
            for index in range(self.options.num_layers)
        ]
        self.final_norm = make_norm(self.options.norm, self.options.norm_epsilon, name="final_norm", dtype=policy)
        self.expand = Projection(RANKER_DIM, name="ranker_expand", dtype="float32")
        self.contract = Projection(1, use_bias=False, name="ranker_contract", initializer="zeros", dtype="float32")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables; `input_shape` is not read."""
        width, text_dim = self.options.hidden_dim, self.tables["text"].shape[1]
        self.text_projection.build((None, text_dim))
        for block in self.blocks:
            block.build((None, None, width))
        self.final_norm.build((None, None, width))
        self.expand.build((None, len(FEATURES)))
        self.contract.build((None, RANKER_DIM))
        length = self.settings.history_length
        self.item_table = self._weight("item_table", (self.num_trained + 1, width))
        self.level_table = self._weight("level_table", (NUM_LEVELS, width))
        self.distance_table = self._weight("distance_table", (length + 1, width))  # 0: the newest
        shape = (self.tables["affinity"].shape[-1] + 1, NUM_LEVELS, length)  # one more for text and categories
        self.event_weights = self._weight(
            "event_weights", shape, keras.initializers.Constant(_first_event_weights(shape))
        )
        first = [[weights.get(feature, 0.0) for feature in FEATURES] for weights in (FIRST_WEIGHTS, FIRST_COLD_WEIGHTS)]
        self.feature_weights = self._weight("feature_bias", (2, len(FEATURES)), keras.initializers.Constant(first))

    def _weight(self, name: str, shape: tuple[int, ...], initializer: Any = None) -> Any:
        return self.add_weight(
            shape=shape, initializer=initializer or initializer_for(self.options), name=name, autocast=False
        )

    def call(self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None) -> dict[str, Any]:
        """Scores the candidates; see the class."""
        logits = self.rank(self.features(inputs, training, dropout_seed))
        if "candidate_bias" in inputs:
            logits += inputs["candidate_bias"]
        return {"logits": tf.where(inputs["candidates"] > 0, logits, IMPOSSIBLE)}

    def rank(self, features: Any) -> Any:
        """The ranker: features [B, C, N] -> scores [B, C]; a weighted sum and what a small network adds to it.

        New items have weights of their own on top of those of all.
        """
        for_all, for_new = tf.unstack(self.feature_weights.value)
        is_cold = features[..., FEATURES.index("is_cold")]
        straight = tf.linalg.matvec(features, for_all) + is_cold * tf.linalg.matvec(features, for_new)
        return straight + self.contract(tf.nn.gelu(self.expand(features)))[..., 0]

    def features(self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None) -> Any:
        """[B, C, N] float32 in the order of FEATURES."""
        if training and dropout_seed is None and self.options.dropout > 0:
            dropout_seed = draw_seed()
        history, levels, candidates = inputs["history"], inputs["history_levels"], inputs["candidates"]
        is_cold = inputs["is_cold"] if "is_cold" in inputs else tf.gather(self.tables["is_cold"], candidates)
        side = inputs["side"] if "side" in inputs else tf.gather(self.tables["side"], candidates)
        state = self.user_state(history, levels, training, dropout_seed if training else None)
        vectors = self.item_vectors(candidates, is_cold)
        by_event = self._event_weights(levels)
        weights = tf.transpose(by_event[:, :-1], [0, 2, 1])
        summed = tf.einsum("btck,btk->bck", self._affinity(inputs), weights) * (1 - is_cold)[..., None]
        text, categories, released = self._profiles(history, by_event[:, -1])
        num_events = tf.math.count_nonzero(history, axis=1, keepdims=True, dtype=tf.float32) + 0.0 * is_cold
        popularity = side[..., :2] * (1 - is_cold)[..., None]
        prior_events = self.settings.prior_events
        columns = [
            tf.einsum("bd,bcd->bc", state, vectors),
            *tf.unstack(summed, axis=-1),
            tf.einsum("be,bce->bc", text, tf.gather(self.tables["text"], candidates)),
            tf.einsum("bg,bcg->bc", categories, tf.gather(self.tables["categories"], candidates)),
            self._same_period(released, candidates),
            *tf.unstack(popularity, axis=-1),
            side[..., 2],
            popularity[..., 0] * prior_events / (prior_events + num_events),
            is_cold,
            tf.math.log1p(num_events) / 4,
            side[..., 3],
            tf.gather(self.tables["appeal"], candidates),
        ]
        return tf.stack(columns, axis=-1)

    def first_stage(self, history: Any, levels: Any) -> Any:
        """[B, I + 1] float32: quick scores of the whole catalogue, from the sequence, the affinities and popularity."""
        weight = dict(zip(FEATURES, tf.unstack(self.feature_weights.value[0]), strict=True))
        numbers = tf.range(tf.shape(self.tables["slots"])[0])
        vectors = self.item_vectors(numbers, self.tables["is_cold"])
        scores = weight["sequence"] * tf.matmul(self.user_state(history, levels), vectors, transpose_b=True)
        rows = tf.gather(self.tables["affinity"], tf.gather(self.tables["slots"], history))  # [B, T, M + 1, 3]
        weights = tf.transpose(self._event_weights(levels)[:, :-1], [0, 2, 1]) * self._affinity_weights()
        scores += tf.gather(tf.einsum("btmk,btk->bm", rows, weights), self.tables["slots"], axis=1)
        popularity = self.tables["side"][:, :2] * (1 - self.tables["is_cold"])[:, None]
        num_events = tf.math.count_nonzero(history, axis=1, keepdims=True, dtype=tf.float32)
        fading = self.settings.prior_events / (self.settings.prior_events + num_events)
        scores += (weight["popularity"] + weight["prior"] * fading) * popularity[:, 0]
        return scores + weight["recent_popularity"] * popularity[:, 1]

    def given_by_events(self, history: Any, levels: Any, candidates: Any) -> Any:
        """[B, T, C] float32: what each event of a history gives each candidate, by affinity and likeness of texts."""
        inputs = {"history": history, "candidates": candidates}
        by_event = tf.transpose(self._event_weights(levels), [0, 2, 1])
        given = tf.einsum("btck,btk->btc", self._affinity(inputs), by_event[..., :-1] * self._affinity_weights())
        texts = (tf.gather(self.tables["text"], inputs[key]) for key in ("history", "candidates"))
        return given + by_event[..., -1:] * tf.matmul(*texts, transpose_b=True)

    def _affinity_weights(self) -> Any:
        first = FEATURES.index("liked_together")
        return self.feature_weights.value[0, first : first + self.tables["affinity"].shape[-1]]

    def user_state(self, history: Any, levels: Any, training: bool = False, dropout_seed: Any = None) -> Any:
        """[B, D] float32: what the transformer makes of a history [B, T]; an empty one has a state too."""
        batch, length = dimensions(history)
        counts = tf.math.count_nonzero(history, axis=1, dtype=tf.int32)
        places = tf.range(length + 1)[None]  # place 0 is the beginning: no item
        distance = tf.clip_by_value(counts[:, None] - places, 0, self.settings.history_length)
        numbers, levels = (tf.pad(rows, [[0, 0], [1, 0]]) for rows in (history, levels))
        hidden = self.item_vectors(numbers, tf.gather(self.tables["is_cold"], numbers))
        hidden += tf.gather(self.level_table.value, levels) + tf.gather(self.distance_table.value, distance)
        hidden = drop(tf.cast(hidden, self.compute_dtype), self.options.dropout, dropout_seed, 0)
        is_there = tf.cast(places <= counts[:, None], tf.int32)
        penalty = attention_penalty(is_there, length + 1, True, False, self.compute_dtype)
        for block in self.blocks:
            hidden = block(hidden, penalty, None, dropout_seed, training=training)
        last = tf.gather(hidden, counts, batch_dims=1)
        return tf.cast(self.final_norm(last, training=training), tf.float32)

    def item_vectors(self, numbers: Any, is_cold: Any) -> Any:
        """[..., D] float32: text through a projection, plus the item's own embedding unless it is cold."""
        has_own = (1 - is_cold) * tf.cast(numbers <= self.num_trained, tf.float32)
        own = tf.gather(self.item_table.value, tf.minimum(numbers, self.num_trained))
        return self.text_vectors(tf.gather(self.tables["text"], numbers)) + own * has_own[..., None]

    def text_vectors(self, text: Any) -> Any:
        """[..., D] float32 of prepared text embeddings [..., E]: where a new item stands."""
        return tf.cast(self.text_projection(tf.cast(text, self.compute_dtype)), tf.float32)

    def _affinity(self, inputs: dict[str, Any]) -> Any:
        """[B, T, C, 3] of each event and candidate."""
        if "affinity" in inputs:
            return inputs["affinity"]
        rows, columns = (tf.gather(self.tables["slots"], inputs[key]) for key in ("history", "candidates"))
        table = self.tables["affinity"]
        places = rows[:, :, None] * table.shape[1] + columns[:, None]
        return tf.gather(tf.reshape(table, [-1, table.shape[-1]]), places)

    def _event_weights(self, levels: Any) -> Any:
        """[B, 4, T]: what each event counts, by its level and how long ago it was; 0 where there is none."""
        counts = tf.math.count_nonzero(levels, axis=1, keepdims=True, dtype=tf.int32)
        distance = tf.maximum(counts - 1 - tf.range(dimensions(levels)[1])[None], 0)
        table = tf.transpose(self.event_weights.value, [1, 2, 0])  # [L, T, 4]
        weights = tf.gather_nd(table, tf.stack([levels, distance], axis=-1))
        return tf.transpose(weights * tf.cast(levels > 0, tf.float32)[..., None], [0, 2, 1])

    def _profiles(self, history: Any, weights: Any) -> tuple[Any, ...]:
        """The weighted mean text [B, E], categories [B, G] and release [B, 2] of a history; see ItemTables."""
        total = tf.reduce_sum(tf.abs(weights), axis=1, keepdims=True) + 1.0
        return tuple(
            tf.einsum("bt,bte->be", weights / total, tf.gather(self.tables[key], history))
            for key in ("text", "categories", "released")
        )

    def _same_period(self, released: Any, candidates: Any) -> Any:
        """[B, C]; 0 where the candidate's release is not known, or none of the history's."""
        decade, is_known = tf.unstack(tf.gather(self.tables["released"], candidates), axis=-1)
        share = released[:, 1:]
        distance = tf.abs(decade - tf.math.divide_no_nan(released[:, :1], share))
        return -tf.where((is_known > 0) & (share > 0), distance, 0.0)


def _first_event_weights(shape: tuple[int, ...]) -> np.ndarray:
    recency = (1 - NEWEST_SHARE) + NEWEST_SHARE * 0.5 ** (np.arange(shape[2]) / HALF_LIFE)
    return np.broadcast_to(np.array(LEVEL_WEIGHTS)[None, :, None] * recency, shape).astype(np.float32)
