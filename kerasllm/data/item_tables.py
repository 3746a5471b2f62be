"""What is known of the items from a log? Which go together, how popular each was at a moment, what their texts say."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse

from kerasllm.config import Recommendation
from kerasllm.data.interactions import Catalogue, Events
from kerasllm.errors import CheckpointError

# I items, M items with a row in the affinity tables, E width of a text embedding, G categories
# Item numbers are catalogue indices + 1; 0 stands for no item.

NUM_AFFINITIES = 3  # EASE on what was liked, EASE on all events, liked soon afterwards
NUM_SIDES = 4  # popularity, recent popularity, age, popularity of the categories
AFFINITY_SCALE = 20.0  # brings EASE's weights, about 0.01 to 0.3, to the size of logits
LONGEST_STEP = 20  # events between two items of which the second still counts as soon afterwards
STEADY_COUNT = 20.0  # added to an item's events before dividing by them, so that rare items promise little
APPEAL_STRENGTH = 50.0  # ridge, in items
APPEAL_FOLDS = 5  # of items
DAY = 86_400.0  # seconds
DECADE = 3652.5 * DAY


@dataclasses.dataclass(frozen=True)
class ItemTables:
    """Everything about the items that is computed, not trained; made anew from a newer log without training.

    Attributes:
      text: [I + 1, E] float32, length 1 after the mean text was taken away.
      categories: [I + 1, G] float32, 1 / (number of the item's categories) for each of them.
      released: [I + 1, 2] float32, decades from 1970 to the release, and 1; both 0 where it is not known.
      appeal: [I + 1] float32, what text, categories and release let expect of an item, see foretell_appeal.
      slots: [I + 1] int32, row in `affinity`; 0 for items without one.
      affinity: [M + 1, M + 1, 3] float32; row: item of the history, column: candidate; 0 in row and column 0.
      side: [I + 1, 4] float32 at the end of the log, see Popularity.
      is_cold: [I + 1] float32, 1 for items without any event.
      text_mean: [E] float32, what was taken away.
      num_trained: the first items, which had an embedding of their own in training.
    """

    text: np.ndarray
    categories: np.ndarray
    released: np.ndarray
    appeal: np.ndarray
    slots: np.ndarray
    affinity: np.ndarray
    side: np.ndarray
    is_cold: np.ndarray
    text_mean: np.ndarray
    num_trained: int

    def save(self, path: Path) -> None:
        """Writes an .npz by rename."""
        unfinished = path.with_name(f".{path.name}.unfinished.npz")
        np.savez(unfinished, **dataclasses.asdict(self))
        unfinished.replace(path)


def load_tables(path: str | os.PathLike[str]) -> ItemTables:
    """Reads what `ItemTables.save` wrote; CheckpointError if it is missing or damaged."""
    try:
        with np.load(path) as arrays:
            fields = {name: arrays[name] for name in arrays.files}
            return ItemTables(**{**fields, "num_trained": int(fields["num_trained"])})
    except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). Make it with apps.recommendation.index.") from None


def make_tables(
    catalogue: Catalogue,
    events: Events,
    text: np.ndarray,
    settings: Recommendation,
    trained: ItemTables | None = None,
) -> ItemTables:
    """The tables of a log; `text` is [I, E], any embedding of the items' texts.

    `trained` are the tables that a model was trained with: newer ones keep its mean text and its number of items.
    """
    text_mean = text.mean(axis=0) if trained is None else trained.text_mean
    numbers = np.arange(len(catalogue) + 1)
    slots = choose_slots(events, len(catalogue), settings.table_items)
    end = int(events.times.max()) + 1 if len(events) else 0
    num_trained = len(catalogue) if trained is None else trained.num_trained
    popularity = Popularity(events, catalogue, settings.recent_days, num_trained)
    counts = np.bincount(events.items + 1, minlength=len(numbers))
    likes = np.bincount(events.items[events.values >= settings.positive_from] + 1, minlength=len(numbers))
    units = np.concatenate([np.zeros_like(text[:1]), unit_texts(text, text_mean)])
    categories, released = _category_shares(catalogue), _releases(catalogue)
    described = np.concatenate([units, categories > 0, _centred(released)], axis=1)
    return ItemTables(
        text=units,
        categories=categories,
        released=released,
        appeal=foretell_appeal(described, likes, counts > 0),
        slots=slots,
        affinity=fit_affinity(events, slots, settings),
        side=popularity.features(numbers, np.full(len(numbers), end)),
        is_cold=(counts == 0).astype(np.float32),
        text_mean=text_mean,
        num_trained=num_trained,
    )


def foretell_appeal(described: np.ndarray, likes: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """How often an item is liked as its description lets expect: ridge regression on the log of 1 + likes.

    Of an item with events it is foretold by the items of the other folds, so that it never knows the item's own.

    Args:
      described: [I + 1, F].
      likes: [I + 1].
      is_known: [I + 1] bool, items with events: the others teach nothing.

    Returns: [I + 1] float32, in standard deviations above the mean item; 0 where there is nothing to learn from.
    """
    logs = np.log1p(likes)
    spread = logs[is_known].std() if is_known.any() else 0.0
    if not spread:
        return np.zeros(len(likes), np.float32)
    targets = (logs - logs[is_known].mean()) / spread
    columns = np.concatenate([described, np.ones([len(described), 1])], axis=1).astype(np.float64)
    fold = np.where(is_known, np.arange(len(likes)) % APPEAL_FOLDS, -1)
    found = np.zeros(len(likes), np.float32)
    for one in np.unique(fold):
        teaches = is_known & (fold != one)
        part = columns[teaches]
        ridge = part.T @ part + APPEAL_STRENGTH * np.eye(part.shape[1])
        found[fold == one] = columns[fold == one] @ np.linalg.solve(ridge, part.T @ targets[teaches])
    found[0] = 0
    return found


def unit_texts(text: np.ndarray, text_mean: np.ndarray) -> np.ndarray:
    """Embeddings without what all texts have in common, at length 1."""
    centred = text - text_mean
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6), np.float32)


def choose_slots(events: Events, num_items: int, most: int) -> np.ndarray:
    """[I + 1] int32: 1, 2, ... for the items with events, the most frequent first, at most `most`; else 0."""
    counts = np.bincount(events.items + 1, minlength=num_items + 1)
    order = np.argsort(-counts, kind="stable")[: min(most, int((counts > 0).sum()))]
    slots = np.zeros(num_items + 1, np.int32)
    slots[order] = np.arange(1, len(order) + 1)
    return slots


def fit_affinity(events: Events, slots: np.ndarray, settings: Recommendation) -> np.ndarray:
    """[M + 1, M + 1, 3] float32 from a log; see ItemTables and NUM_AFFINITIES."""
    size = int(slots.max()) + 1
    places, liked = slots[events.items + 1], events.values >= settings.positive_from
    tables = np.zeros([size, size, NUM_AFFINITIES], np.float32)
    if size > 1 and len(events):
        shape = (len(events.user_names), size)
        for table, chosen in enumerate((liked, np.ones_like(liked))):
            ones = np.ones(int(chosen.sum()), np.float32)
            seen = scipy.sparse.csr_matrix((ones, (events.users[chosen], places[chosen])), shape)
            seen.data[:] = 1  # repeated events count once
            tables[1:, 1:, table] = closeness(seen[:, 1:], settings.table_strength)
        tables[..., 2] = _soon_afterwards(events, places, liked, size)
        tables[0], tables[:, 0] = 0, 0
    return tables * AFFINITY_SCALE


def closeness(seen: Any, strength: float) -> np.ndarray:
    """EASE: the item-to-item weights, without a diagonal, that predict each row of `seen` from its other items.

    Args:
      seen: [U, M] sparse 0/1.
      strength: of the ridge, in users.

    Returns: [M, M]; scores of a user are his row times it.

    Source: Steck 2019, Embarrassingly shallow autoencoders for sparse data, equation 8.
    """
    together = (seen.T @ seen).toarray().astype(np.float64)
    together[np.diag_indices_from(together)] += strength
    half, _ = scipy.linalg.lapack.dpotri(scipy.linalg.cholesky(together, lower=True), lower=True)  # the lower triangle
    inverse = half + np.tril(half, -1).T
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights, np.float32)


def _soon_afterwards(events: Events, places: np.ndarray, liked: np.ndarray, size: int) -> np.ndarray:
    """Sum of 1 / steps over the times that the column's item was liked after the row's, per event of the row's item."""
    total = np.zeros([size, size])
    for steps in range(1, LONGEST_STEP + 1):
        counted = (events.users[:-steps] == events.users[steps:]) & liked[steps:]
        np.add.at(total, (places[:-steps][counted], places[steps:][counted]), 1 / steps)
    np.fill_diagonal(total, 0)
    counts = np.bincount(places, minlength=size)
    return total / (counts[:, None] + STEADY_COUNT)


class Popularity:
    """How popular and how old the items were at any moment: what was known strictly before it, nothing later.

    Args:
      events: the log.
      catalogue: for the dates of release.
      recent_days: length of the window of recent popularity.
      num_items: that popularity is compared with the mean of; None: the catalogue's. A catalogue that has grown since
        the training keeps the number of then, so that the old items' features stay what they were.
    """

    def __init__(self, events: Events, catalogue: Catalogue, recent_days: float, num_items: int | None = None) -> None:
        self._times = np.sort(events.times)
        self._first = int(self._times[0]) if len(events) else 0
        self._span = int(self._times[-1]) - self._first + 2 if len(events) else 2
        self._keys = np.sort((events.items + 1) * self._span + events.times - self._first)
        self._released = np.concatenate([[np.nan], catalogue.released])
        self._num_items = max(1, num_items or len(catalogue))
        self._window = int(recent_days * DAY)
        shares = _category_shares(catalogue) > 0
        self._members = _padded_places(shares)
        self._sizes = np.append(shares[: self._num_items + 1].sum(axis=0), 1)
        counted = self._members[events.items + 1]
        keys = counted * self._span + (events.times - self._first)[:, None]
        self._category_keys = np.sort(keys[counted < shares.shape[1]])
        self._category_starts = np.searchsorted(self._category_keys, np.arange(len(self._sizes)) * self._span)

    def features(self, numbers: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Log of the share of events, all and recent, against the mean item's; age; the categories' popularity.

        Args:
          numbers: [...] item numbers.
          now: [...] seconds.

        Returns: [..., 4] float32; age is the log of days, 0 where the release is not known or not yet; the categories'
          popularity is the mean over the item's categories of how popular the mean other item of each is, 0 without
          categories. It is what is known of a new item.
        """
        before, earlier = self._counts(numbers, now), self._counts(numbers, now - self._window)
        total, total_earlier = (np.searchsorted(self._times, moment) for moment in (now, now - self._window))
        age = np.nan_to_num(np.maximum(now - self._released[numbers], 0) / DAY)
        logs = [
            np.log((before + 1) / (total / self._num_items + 1)),
            np.log((before - earlier + 1) / ((total - total_earlier) / self._num_items + 1)),
            np.log1p(age) / 5,
            self._of_categories(numbers, now, before, total / self._num_items + 1),
        ]
        return np.stack(logs, axis=-1).astype(np.float32)

    def _of_categories(self, numbers: np.ndarray, now: np.ndarray, own: np.ndarray, mean: np.ndarray) -> np.ndarray:
        members = self._members[numbers]
        is_one = members < len(self._sizes) - 1
        moment = np.clip(now - self._first, 0, self._span - 1)[..., None]
        counts = np.searchsorted(self._category_keys, members * self._span + moment) - self._category_starts[members]
        others = self._sizes[members] - (numbers <= self._num_items)[..., None]
        per_other = (counts - own[..., None]) / np.maximum(others, 1)
        logs = np.where(is_one, np.log((np.maximum(per_other, 0) + 1) / mean[..., None]), 0.0)
        return np.asarray(logs.sum(axis=-1) / np.maximum(is_one.sum(axis=-1), 1))

    def _counts(self, numbers: np.ndarray, before: np.ndarray) -> np.ndarray:
        moment = np.clip(before - self._first, 0, self._span - 1)
        return np.searchsorted(self._keys, numbers * self._span + moment) - np.searchsorted(
            self._keys, numbers * self._span
        )


def _releases(catalogue: Catalogue) -> np.ndarray:
    decades = np.concatenate([[np.nan], catalogue.released]) / DECADE
    return np.stack([np.nan_to_num(decades), ~np.isnan(decades)], axis=1).astype(np.float32)


def _centred(released: np.ndarray) -> np.ndarray:
    """[I + 1, 1] decades from the mean release; 0 where it is not known."""
    is_known = released[:, 1:] > 0
    mean = released[is_known[:, 0], 0].mean() if is_known.any() else 0.0
    return np.where(is_known, released[:, :1] - mean, 0.0)


def _padded_places(members: np.ndarray) -> np.ndarray:
    """[I + 1, most] places of the True values of each row of [I + 1, G]; G behind the last."""
    number, width = members.shape[1], max(1, int(members.sum(axis=1).max()))
    return np.sort(np.where(members, np.arange(number), number), axis=1)[:, :width]


def _category_shares(catalogue: Catalogue) -> np.ndarray:
    names = {name: place for place, name in enumerate(catalogue.category_names)}
    shares = np.zeros([len(catalogue) + 1, max(1, len(names))], np.float32)
    for number, categories in enumerate(catalogue.categories, 1):
        for name in categories:
            shares[number, names[name]] = 1 / len(categories)
    return shares
