"""What can be asked of an exported recommender? Scores, lists with reasons, and where a new item stands."""

# B users, T history, C candidates, K items of a list, N candidates of the first stage, I items, D hidden width

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.config import DISLIKED, LIKED, NEUTRAL, Recommendation
from kerasllm.export.golden import GOLDEN_TEXTS, Call
from kerasllm.export.savedmodel import Request, arrays_of, bytes_of, write_export
from kerasllm.export.warmup import bucket_text, length_buckets
from kerasllm.models.recommendation import IMPOSSIBLE, Recommender

NUMBER = r"-?[0-9]+(\.[0-9]+)?"
MAX_WARMED = 128  # tokens of an item's text in the warm-up
BECAUSE, POPULAR = "because you liked ", "popular with others"


@dataclass(frozen=True)
class ItemNames:
    """What an export says about items: ids, titles and categories in the order of the catalogue."""

    ids: Sequence[str]
    titles: Sequence[str]
    categories: Sequence[Sequence[str]]
    category_names: Sequence[str]


class RecommenderSignatures(tf.Module):
    """The functions of an exported recommender; the catalogue and the item index are part of it.

    It tracks plain variables, as ClassifierSignatures does.

    Args:
      model: with its tables.
      encode: item texts [B] string -> embeddings [B, E], in the graph.
      tracked: what `encode` needs: variables and assets.
      text_mean: [E], taken away from embeddings before the model sees them.
      names: of the items.
      settings: how lists are built.
    """

    def __init__(
        self,
        model: Recommender,
        encode: Callable[[tf.Tensor], tf.Tensor],
        tracked: Sequence[Any],
        text_mean: np.ndarray,
        names: ItemNames,
        settings: Recommendation,
    ) -> None:
        super().__init__(name="recommender")
        self._tracked = [variable.value for variable in model.weights]
        self._tables = list(model.tables.values())
        self._tracked_text = list(tracked)
        self._numbers = _lookup([*names.ids], 1)
        self._category_numbers = _lookup([*names.category_names], 0, default=-1)
        self._ids, self._titles = (tf.constant(["", *each]) for each in (names.ids, names.titles))
        belongs = np.zeros([len(names.ids) + 1, max(1, len(names.category_names))], np.float32)
        place_of = {name: place for place, name in enumerate(names.category_names)}
        for number, categories in enumerate(names.categories, 1):
            belongs[number, [place_of[name] for name in categories]] = 1
        self._belongs = tf.Variable(belongs, trainable=False)
        self.settings = settings
        self.num_items = len(names.ids)

        # The model is held by the closures alone: as an attribute tf.Module would track it.
        def rank(history: tf.Tensor, levels: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
            return model({"history": history, "history_levels": levels, "candidates": candidates})["logits"]

        def embed(texts: tf.Tensor) -> tf.Tensor:
            return model.text_vectors(tf.math.l2_normalize(encode(texts) - text_mean, axis=-1))

        self._rank, self._embed = rank, embed
        self._first_stage, self._given = model.first_stage, model.given_by_events

    def score(self, history: tf.Tensor, candidates: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores [B, C] float32 of the listed candidates; -1e9 for an unknown id and behind the end of a list.

        Args:
          history: [B] string, `id:value,id:value,...`, the oldest first; without a value an item counts as liked.
          candidates: [B] string, `id,id,...`.
        """
        newest, levels, _ = self._read_history(history)
        numbers = self._numbers.lookup(_parts(candidates).to_tensor(""))
        return {"scores": self._rank(newest, levels, numbers)}

    def recommend(self, history: tf.Tensor, blocked: tf.Tensor) -> dict[str, tf.Tensor]:
        """A list for each user: items, titles, reasons [B, K] string and scores [B, K] float32, the best first.

        Where fewer than K items are left, items are "" and scores -1e9.

        Args:
          history: as in `score`; its items are not recommended again.
          blocked: [B] string, categories `name,name,...` from which nothing is wanted.
        """
        newest, levels, had = self._read_history(history)
        allowed = ~had & ~self._is_blocked(blocked)  # 1. filters
        candidates = self._candidates(newest, levels, allowed)  # 2. candidates from the index
        scores = self._rank(newest, levels, candidates)  # 3. ranker
        chosen = self._choose(candidates, scores)  # 4. diversity and caps
        numbers = tf.where(chosen >= 0, tf.gather(candidates, tf.maximum(chosen, 0), batch_dims=1), 0)
        final = tf.where(numbers > 0, tf.gather(scores, tf.maximum(chosen, 0), batch_dims=1), IMPOSSIBLE)
        return {
            "items": tf.gather(self._ids, numbers),
            "titles": tf.gather(self._titles, numbers),
            "scores": final,
            "reasons": self._reasons(newest, levels, numbers),  # 5. because you ...
        }

    def embed_items(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Item texts [B] string -> embedding [B, D] float32, where the item stands before anyone has seen it."""
        return {"embedding": self._embed(text)}

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The traced functions by signature name; `serving_default` is `recommend`."""
        strings = tf.TensorSpec([None], tf.string)
        recommend = tf.function(self.recommend, autograph=False).get_concrete_function(history=strings, blocked=strings)
        return {
            "serving_default": recommend,
            "recommend": recommend,
            "score": tf.function(self.score, autograph=False).get_concrete_function(
                history=strings, candidates=strings
            ),
            "embed_items": tf.function(self.embed_items, autograph=False).get_concrete_function(text=strings),
        }

    def _read_history(self, history: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """History and levels [B, T] int32 of the newest known items, and whether each item was had [B, I + 1]."""
        parts = _parts(history)
        numbers = self._numbers.lookup(tf.strings.regex_replace(parts.flat_values, ":.*$", ""))
        values = tf.strings.regex_replace(parts.flat_values, "^[^:]*:?", "")
        is_number = tf.strings.regex_full_match(values, NUMBER)
        values = tf.strings.to_number(tf.where(is_number, values, "0"))
        liked = ~is_number | (values >= self.settings.positive_from)
        levels = tf.where(liked, LIKED, tf.where(values <= self.settings.negative_to, DISLIKED, NEUTRAL))
        rows = parts.value_rowids()
        batch = tf.cast(tf.shape(history)[0], tf.int64)
        had = tf.scatter_nd(
            tf.stack([rows, tf.cast(numbers, tf.int64)], axis=1),
            tf.ones_like(numbers),
            tf.stack([batch, self.num_items + 1]),
        )
        known = numbers > 0
        length = self.settings.history_length
        newest, levels = (
            tf.RaggedTensor.from_value_rowids(
                tf.boolean_mask(each, known), tf.boolean_mask(rows, known), batch
            )[:, -length:].to_tensor(0, shape=[None, length])
            for each in (numbers, levels)
        )  # fmt: skip
        return newest, levels, had > 0

    def _is_blocked(self, blocked: tf.Tensor) -> tf.Tensor:
        """[B, I + 1]: the item is of one of the blocked categories."""
        places = self._category_numbers.lookup(_parts(blocked).to_tensor(""))
        wanted_not = tf.reduce_max(tf.one_hot(places, self._belongs.shape[1]), axis=1)
        return tf.matmul(wanted_not, self._belongs, transpose_b=True) > 0

    def _candidates(self, newest: tf.Tensor, levels: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
        """[B, N] int32: the exact top of the first stage among what is allowed; 0 where nothing is left."""
        scores = tf.where(allowed, self._first_stage(newest, levels), IMPOSSIBLE)
        scores = tf.concat([tf.fill([tf.shape(scores)[0], 1], IMPOSSIBLE), scores[:, 1:]], axis=1)
        best, numbers = tf.math.top_k(scores, min(self.settings.candidates, self.num_items))
        return tf.where(best > IMPOSSIBLE, numbers, 0)

    def _choose(self, candidates: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        """[B, K] places in `candidates`, -1 where none is left: maximal marginal relevance under the caps.

        Relevance is the score between the lowest (0) and the highest (1) of the candidates, likeness the cosine of the
        texts, not below 0 (Carbonell & Goldstein 1998).
        """
        trade_off = self.settings.diversity
        is_left = candidates > 0
        highest = tf.reduce_max(scores, axis=1, keepdims=True)
        lowest = tf.reduce_min(tf.where(is_left, scores, highest), axis=1, keepdims=True)
        relevance = (scores - lowest) / tf.maximum(highest - lowest, 1e-6)
        texts = tf.gather(self._tables[0], candidates)
        belongs = tf.gather(self._belongs, candidates)
        counts = tf.zeros_like(belongs[:, 0])
        nearest = tf.zeros_like(relevance)
        chosen = []
        for _ in range(min(self.settings.list_length, self.num_items)):
            is_full = tf.cast(counts >= self.settings.most_per_category, tf.float32)
            open_now = is_left & (tf.einsum("bcg,bg->bc", belongs, is_full) == 0)
            value = tf.where(open_now, (1 - trade_off) * relevance - trade_off * nearest, IMPOSSIBLE)
            best = tf.argmax(value, axis=1, output_type=tf.int32)
            found = tf.reduce_any(open_now, axis=1)
            chosen.append(tf.where(found, best, -1))
            picked = tf.one_hot(best, tf.shape(candidates)[1]) * tf.cast(found, tf.float32)[:, None]
            is_left &= picked == 0
            counts += tf.einsum("bcg,bc->bg", belongs, picked)
            nearest = tf.maximum(nearest, tf.einsum("bce,be->bc", texts, tf.einsum("bce,bc->be", texts, picked)))
        return tf.stack(chosen, axis=1)

    def _reasons(self, newest: tf.Tensor, levels: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """[B, K] string: the liked item of the history that gave the most, if any gave something."""
        given = tf.where((levels == LIKED)[..., None], self._given(newest, levels, numbers), 0.0)
        best = tf.argmax(given, axis=1, output_type=tf.int32)
        liked = tf.gather(self._titles, tf.gather(newest, best, batch_dims=1))
        reason = tf.where(tf.reduce_max(given, axis=1) > 0, tf.strings.join([BECAUSE, liked]), POPULAR)
        return tf.where(numbers > 0, reason, "")


def _parts(texts: tf.Tensor) -> tf.RaggedTensor:
    """The parts [B, (parts)] of texts [B] between commas, without spaces around them."""
    parts = tf.strings.split(texts, ",")
    return parts.with_flat_values(tf.strings.strip(parts.flat_values))


def _lookup(names: Sequence[str], first: int, default: int = 0) -> tf.lookup.StaticHashTable:
    """Names to first, first + 1, ...; `default` for any other."""
    numbers = np.arange(first, first + len(names), dtype=np.int32)
    keys = [*names, "\x00"]  # a table needs one entry
    initializer = tf.lookup.KeyValueTensorInitializer(keys, [*numbers, default], tf.string, tf.int32)
    return tf.lookup.StaticHashTable(initializer, default)


def write_recommender(
    signatures: RecommenderSignatures,
    base_path: str | os.PathLike[str],
    name: str,
    notes: Mapping[str, Any],
    names: ItemNames,
    measure_batching: bool = False,
) -> Path:
    """Writes base_path/name/<next version>/ and returns it; the folder appears whole and checked, or not at all.

    Args:
      signatures: of the model.
      base_path: folder of all exported models.
      name: of the model.
      notes: what else assets.extra/export.json says.
      names: of the items, written as assets.extra/items.jsonl.
      measure_batching: times lists for the longest history and writes batching_params.pbtxt.

    Raises:
      ExportError: the name is none, the folder cannot be written, or a check failed.
    """
    ids = [*names.ids][:6]
    histories = np.array(
        [item.encode() for item in ("", ",".join(ids[:3]), f"{ids[0]}:1, {ids[-1]}:5,unknown")], object
    )
    blocked = np.array([item.encode() for item in ("", ",".join(names.category_names[:1]), "")], object)
    lists = np.array([item.encode() for item in (",".join(ids), ids[0], "unknown")], object)
    texts = np.array([text.encode() for text in GOLDEN_TEXTS], object)
    recommended = arrays_of(signatures.recommend(tf.constant(histories), tf.constant(blocked)))
    scored = arrays_of(signatures.score(tf.constant(histories), tf.constant(lists)))
    calls = [
        Call("serving_default", {"history": histories, "blocked": blocked}, recommended),
        Call("recommend", {"history": histories, "blocked": blocked}, recommended),
        Call("score", {"history": histories, "candidates": lists}, scored),
        Call("embed_items", {"text": texts}, arrays_of(signatures.embed_items(tf.constant(texts)))),
    ]
    rows = zip(names.ids, names.titles, names.categories, strict=True)
    items = [{"item": item, "title": title, "categories": [*categories]} for item, title, categories in rows]
    files = {
        "export.json": json.dumps({"format_version": 1, "name": name, **notes}, indent=1, ensure_ascii=False) + "\n",
        "items.jsonl": "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items),
    }
    long = ",".join(names.ids[: signatures.settings.history_length]).encode()  # the longest history that is read
    longest = {"history": np.array([long], object), "blocked": np.array([b""], object)}
    warmup: list[Request] = [("recommend", longest)]
    warmup += [("embed_items", {"text": np.array([bucket_text(size)], object)}) for size in length_buckets(MAX_WARMED)]
    measured = ("serving_default", longest) if measure_batching else None
    size = bytes_of(signatures.variables)
    return write_export(signatures, calls, size, base_path, name, files, warmup, measured=measured)
