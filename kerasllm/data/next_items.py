"""How does a log become training batches? A history, what came next, and items that did not, seen as of that moment."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.config import DISLIKED, LIKED, NEUTRAL, Recommendation, Run
from kerasllm.data.interactions import Catalogue, Events
from kerasllm.data.item_tables import NUM_AFFINITIES, NUM_SIDES, ItemTables, Popularity, fit_affinity
from kerasllm.data.order import BatchOrder

# B rows, T history, C candidates, F folds of users, I items; item numbers count from 1, 0 is no item

NEWEST = 10  # items of the history whose neighbours are hard negatives
NUM_NEIGHBOURS = 50
STRAY_COLD = 0.02  # share of single candidates seen as new in rows that are not, so that both can be compared


class NextItems:
    """Batches of targets: each liked event is one, with the events before it as history.

    A row sees nothing later than its target: its history ends before it, its side features are of the moment of the
    newest event of that history, and in training its affinities were fitted on other users.

    Args:
      events: the log in which histories are looked up, sorted.
      targets: [K] places in the log that are to be predicted.
      catalogue: the items.
      tables: of the training log; affinities of rows that are not for training.
      run: `recommendation`, `train.global_batch` and `seed` are used.
      training: negatives differ from epoch to epoch, affinities come from folds, some rows have new candidates only.
    """

    def __init__(
        self, events: Events, targets: np.ndarray, catalogue: Catalogue, tables: ItemTables, run: Run, training: bool
    ) -> None:
        self.settings, self.run, self.training = run.recommendation, run, training
        self.events, self.targets, self.tables = events, targets, tables
        self.levels = levels(events.values, self.settings)
        self.popularity = Popularity(events, catalogue, self.settings.recent_days)
        self._stride = len(catalogue) + 2
        self._had = np.sort(events.users * self._stride + events.items + 1)
        self._warm = np.flatnonzero(tables.is_cold == 0)
        self._order = BatchOrder(np.zeros(len(targets)), run, training, self.steps_per_epoch)
        self._affinities = _of_folds(events, tables.slots, self.settings) if training else tables.affinity[None]
        self._neighbours = [neighbours(affinity[..., 1], tables.slots) for affinity in self._affinities]

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch: full ones in training, all of them otherwise."""
        count, batch = len(self.targets), self.run.train.global_batch
        return max(1, count // batch) if self.training else math.ceil(count / batch)

    def batches(self, start_step: int = 0) -> tf.data.Dataset:
        """The batches from a step on; endless in training. Step k is always the same batch.

        Keys: history, history_levels [B, T] int32; candidates [B, C] int32, the target first; affinity [B, T, C, 3],
        side [B, C, 4], is_cold [B, C], candidate_bias [B, C] float32; labels [B] int32 (all 0), label_weights [B].
        """
        batch, length = self.run.train.global_batch, self.settings.history_length
        num = 1 + self.settings.num_negatives
        forms: dict[str, tuple[Any, list[int]]] = {
            "history": (tf.int32, [batch, length]),
            "history_levels": (tf.int32, [batch, length]),
            "candidates": (tf.int32, [batch, num]),
            "affinity": (tf.float32, [batch, length, num, NUM_AFFINITIES]),
            "side": (tf.float32, [batch, num, NUM_SIDES]),
            "is_cold": (tf.float32, [batch, num]),
            "candidate_bias": (tf.float32, [batch, num]),
            "labels": (tf.int32, [batch]),
            "label_weights": (tf.float32, [batch]),
        }

        def of_step(step: tf.Tensor) -> dict[str, tf.Tensor]:
            arrays = tf.numpy_function(
                lambda number: [self.batch(int(number))[key] for key in forms],
                [step],
                [kind for kind, _ in forms.values()],
            )
            return {key: tf.ensure_shape(array, forms[key][1]) for key, array in zip(forms, arrays, strict=True)}

        last = np.iinfo(np.int64).max if self.training else self.steps_per_epoch
        return tf.data.Dataset.range(start_step, last).map(of_step, 2).prefetch(2)

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of one batch; see `batches`."""
        rows = self._order.rows(step)
        size, places = len(rows), self.targets[np.maximum(rows, 0)]
        random = np.random.default_rng([self.run.seed, step, 5 if self.training else 6])
        users, target = self.events.users[places], self.events.items[places] + 1
        seen = self.seen_before(places)
        fold = users % len(self._affinities)
        candidates, bias = self._candidates(random, users, target, seen["history"], fold)
        rows_of_fold = fold * self._affinities.shape[1]
        places_of = self.tables.slots[seen["history"]] + rows_of_fold[:, None]
        table = self._affinities.reshape([-1, NUM_AFFINITIES])
        width = self._affinities.shape[2]
        affinity = table[places_of[:, :, None] * width + self.tables.slots[candidates][:, None]]
        now = np.broadcast_to(seen["now"][:, None], candidates.shape)
        return {
            "history": seen["history"].astype(np.int32),
            "history_levels": seen["levels"].astype(np.int32),
            "candidates": candidates.astype(np.int32),
            "affinity": affinity,
            "side": self.popularity.features(candidates, now),
            "is_cold": self._cold(random, candidates),
            "candidate_bias": bias.astype(np.float32),
            "labels": np.zeros(size, np.int32),
            "label_weights": (rows >= 0).astype(np.float32),
        }

    def seen_before(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """What was known just before these places of the log.

        Returns: history [B, T] item numbers, the oldest first, 0 behind the newest; levels [B, T]; now [B] seconds, the
          time of the newest event of the history, or of the target where there is none.
        """
        length = self.settings.history_length
        counts = np.minimum(places - self.events.starts[self.events.users[places]], length)
        steps = np.arange(length)[None]
        is_there = steps < counts[:, None]
        at = np.where(is_there, places[:, None] - counts[:, None] + steps, 0)
        return {
            "history": np.where(is_there, self.events.items[at] + 1, 0),
            "levels": np.where(is_there, self.levels[at], 0),
            "now": self.events.times[np.where(counts > 0, places - 1, places)],
        }

    def _candidates(
        self, random: np.random.Generator, users: np.ndarray, target: np.ndarray, history: np.ndarray, fold: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Target and negatives [B, C], and minus the log of how often each was to be expected in the sample.

        A negative that the user had, then or later, is no negative: its number is 0.
        """
        size, num = len(users), self.settings.num_negatives
        newest = _newest(history, NEWEST)
        pool = np.stack([self._neighbours[fold[row]][newest[row]] for row in range(size)]).reshape(size, -1)
        hard_share = np.where((newest > 0).any(axis=1), self.settings.hard_share, 0.0)[:, None]
        pool_size = np.maximum((newest > 0).sum(axis=1, keepdims=True), 1) * NUM_NEIGHBOURS
        hard = np.take_along_axis(pool, random.integers(0, pool_size, [size, num]), axis=1)
        easy = random.choice(self._warm, [size, num])
        negatives = np.where(random.random([size, num]) < hard_share, hard, easy)
        negatives = np.where(self._is_had(users, negatives), 0, negatives)
        candidates = np.concatenate([target[:, None], negatives], axis=1)
        keys = np.arange(size)[:, None] * self._stride
        counts = np.bincount((pool + keys).reshape(-1), minlength=size * self._stride)
        in_pool = counts[candidates + keys] / pool_size
        expected = num * (hard_share * in_pool + (1 - hard_share) / len(self._warm))
        return candidates, -np.log(expected + 1e-9)

    def _is_had(self, users: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        keys = users[:, None] * self._stride + numbers
        places = np.minimum(np.searchsorted(self._had, keys), len(self._had) - 1)
        return np.asarray(self._had[places] == keys)

    def _cold(self, random: np.random.Generator, candidates: np.ndarray) -> np.ndarray:
        is_cold = self.tables.is_cold[candidates]
        if not self.training:
            return is_cold
        rows = random.random([len(candidates), 1]) < self.settings.cold_share
        strays = (random.random(candidates.shape) < STRAY_COLD) & (self.settings.cold_share > 0)
        return np.maximum(is_cold, rows | strays).astype(np.float32)


def levels(values: np.ndarray, settings: Recommendation) -> np.ndarray:
    """DISLIKED, NEUTRAL or LIKED for each value."""
    return np.where(
        values >= settings.positive_from, LIKED, np.where(values <= settings.negative_to, DISLIKED, NEUTRAL)
    )


def liked_places(events: Events, settings: Recommendation) -> np.ndarray:
    """Places of the log that are targets."""
    return np.flatnonzero(events.values >= settings.positive_from)


def neighbours(affinity: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """[I + 1, NUM_NEIGHBOURS] item numbers of the greatest affinity to each item; 0 where there are none."""
    numbers = np.zeros(len(affinity), np.int64)
    numbers[slots] = np.arange(len(slots))
    numbers[0] = 0
    count = min(NUM_NEIGHBOURS, len(affinity))
    nearest = np.argpartition(-affinity, count - 1, axis=1)[:, :count]
    found = np.zeros([len(slots), NUM_NEIGHBOURS], np.int64)
    found[:, :count] = numbers[nearest][slots]
    found[slots == 0] = 0
    return found


def _newest(history: np.ndarray, count: int) -> np.ndarray:
    """The newest `count` numbers of each history [B, T], the newest first; 0 where there are fewer."""
    places = (history > 0).sum(axis=1, keepdims=True) - 1 - np.arange(count)[None]
    return np.where(places >= 0, np.take_along_axis(history, np.maximum(places, 0), axis=1), 0)


def _of_folds(events: Events, slots: np.ndarray, settings: Recommendation) -> np.ndarray:
    """[F, M + 1, M + 1, 3]: the affinities fitted without the users of each fold."""
    folds = settings.table_folds
    return np.stack([fit_affinity(events.take(events.users % folds != fold), slots, settings) for fold in range(folds)])
