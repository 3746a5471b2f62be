"""Who did what with which item, and when? Events and the catalogue: reading, checks, splits by time."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasllm.data.tables import read_columns
from kerasllm.errors import DataError

# N events, I items, U users

EVENT_COLUMNS = ("user", "item", "time", "value")
PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items, in the order of their indices.

    Attributes:
      ids: as they stand in the logs.
      titles: for people.
      texts: all that is said about an item: title, categories, description, tags.
      categories: of each item.
      released: [I] float64 seconds; NaN where it is not known.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    released: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Index by id."""
        return {item: number for number, item in enumerate(self.ids)}

    @functools.cached_property
    def category_names(self) -> tuple[str, ...]:
        """All categories, sorted."""
        return tuple(sorted({name for names in self.categories for name in names}))

    def with_items(self, others: "Catalogue") -> "Catalogue":
        """This catalogue and, behind it, the items of another one that it lacks."""
        new = [number for number, item in enumerate(others.ids) if item not in self.index]
        joined = {
            field: (*getattr(self, field), *(getattr(others, field)[number] for number in new))
            for field in ("ids", "titles", "texts", "categories")
        }
        return Catalogue(**joined, released=np.concatenate([self.released, others.released[new]]))


@dataclasses.dataclass(frozen=True)
class Events:
    """A log, sorted by user and for each user by time (events of one second: in the order of the file).

    Attributes:
      user_names: U names; `users` are indices into them.
      users, items: [N] int64 indices.
      times: [N] int64 seconds.
      values: [N] float32, strength of liking on the scale of the data.
    """

    user_names: tuple[str, ...]
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: np.ndarray) -> "Events":
        """The events of a mask or of rising places; users keep their indices."""
        return Events(self.user_names, *(column[chosen] for column in self._columns()))

    def sorted(self) -> "Events":
        """The same events in the order that the class promises."""
        return self.take(np.lexsort([self.times, self.users]))

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """[U + 1] int64: user u has the events starts[u] ... starts[u + 1] - 1."""
        return np.searchsorted(self.users, np.arange(len(self.user_names) + 1))

    def of_user(self, name: str) -> "Events":
        """One user's events; none for an unknown name."""
        if name not in self._user_index:
            return self.take(np.zeros(0, np.int64))
        user = self._user_index[name]
        return self.take(np.arange(self.starts[user], self.starts[user + 1]))

    def with_events(self, others: "Events") -> "Events":
        """This log and another one's events together."""
        names = (*self.user_names, *(name for name in others.user_names if name not in self._user_index))
        index = {name: number for number, name in enumerate(names)}
        users = np.array([index[name] for name in others.user_names], np.int64)[others.users]
        columns = zip(self._columns(), (users, *others._columns()[1:]), strict=True)
        return Events(names, *(np.concatenate(pair) for pair in columns)).sorted()

    @functools.cached_property
    def _user_index(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.user_names)}

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.users, self.items, self.times, self.values


def read_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """Reads items.jsonl: item, title, text, categories (list) and released (seconds or null) on each line.

    Raises:
      DataError: naming file and line: a missing field, another form, or an item that stands there twice.
    """
    rows: dict[str, dict[str, str]] = {}
    for row, fields in read_columns(path, ["item", "title", "text", "categories", "released"]):
        if fields["item"] in rows:
            raise DataError(f"{path}:{row}: item {fields['item']!r} stands there twice. Keep one of the two.")
        if not fields["text"].strip():
            raise DataError(f"{path}:{row}: item {fields['item']!r} has no text. Give at least its title as text.")
        rows[fields["item"]] = fields
    return Catalogue(
        ids=tuple(rows),
        titles=tuple(fields["title"] for fields in rows.values()),
        texts=tuple(fields["text"] for fields in rows.values()),
        categories=tuple(tuple(json.loads(fields["categories"])) for fields in rows.values()),
        released=np.array([json.loads(fields["released"]) for fields in rows.values()], np.float64),
    )


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Writes what `read_catalogue` reads."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for number, item in enumerate(catalogue.ids):
            released = catalogue.released[number]
            fields = {
                "item": item,
                "title": catalogue.titles[number],
                "text": catalogue.texts[number],
                "categories": catalogue.categories[number],
                "released": None if np.isnan(released) else float(released),
            }
            print(json.dumps(fields, ensure_ascii=False), file=file)


def read_events(path: str | os.PathLike[str], catalogue: Catalogue) -> Events:
    """Reads a .tsv, .csv or .jsonl of user, item, time (seconds) and value.

    Raises:
      DataError: naming file and line: a missing column, an item that the catalogue lacks, or no number.
    """
    rows = []
    for row, fields in read_columns(path, EVENT_COLUMNS):
        item = fields["item"]
        if item not in catalogue.index:
            raise DataError(f"{path}:{row}: item {item!r} is not in the catalogue. Add it there or remove the row.")
        try:
            rows.append((fields["user"], catalogue.index[item], int(float(fields["time"])), float(fields["value"])))
        except ValueError:
            raise DataError(
                f"{path}:{row}: time {fields['time']!r} or value {fields['value']!r} is not a number. Mend the row."
            ) from None
    return make_events(rows)


def make_events(rows: Sequence[tuple[str, int, int, float]]) -> Events:
    """Events of rows user name, item index, seconds, value, in any order."""
    names = tuple(dict.fromkeys(row[0] for row in rows))
    index = {name: number for number, name in enumerate(names)}
    return Events(
        names,
        np.array([index[row[0]] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.float32),
    ).sorted()


def write_events(events: Events, catalogue: Catalogue, path: Path) -> None:
    """Writes what `read_events` reads."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        print(*EVENT_COLUMNS, sep="\t", file=file)
        for user, item, time, value in zip(events.users, events.items, events.times, events.values, strict=True):
            print(events.user_names[user], catalogue.ids[item], time, f"{value:g}", sep="\t", file=file)


def is_late(events: Events, share: float) -> np.ndarray:
    """[N] bool: the last `share` of each user's events (rounded) by time."""
    counts = np.diff(events.starts)
    first_late = events.starts[:-1] + counts - np.round(counts * share).astype(np.int64)
    return np.arange(len(events)) >= first_late[events.users]


def split_by_time(events: Events, test_share: float, validation_share: float) -> dict[str, Events]:
    """Each user's last events are the test part; the last of those before are the validation part."""
    late = is_late(events, test_share)
    early = events.take(~late)
    held = is_late(early, validation_share)
    return {"train": early.take(~held), "validation": early.take(held), "test": events.take(late)}


def choose_items(num_items: int, share: float, seed: int) -> np.ndarray:
    """[I] bool: a random share of the items."""
    chosen = np.zeros(num_items, bool)
    chosen[np.random.default_rng(seed).permutation(num_items)[: round(share * num_items)]] = True
    return chosen


def hold_out_items(parts: Mapping[str, Events], num_items: int, share: float, seed: int) -> dict[str, Events]:
    """Takes all events of a share of the items out of every part; those of the test part become the part "cold"."""
    if not share:
        return dict(parts)
    cold = choose_items(num_items, share, seed)
    warm = {name: events.take(~cold[events.items]) for name, events in parts.items()}
    return {**warm, "cold": parts["test"].take(cold[parts["test"].items])}


def findings(parts: Mapping[str, Events], catalogue: Catalogue) -> list[str]:
    """What a person should know before training on these parts; nothing here forbids it.

    Raises:
      DataError: a part has events that lie before the user's events of an earlier part: the future would leak.
    """
    notes = []
    for name, events in parts.items():
        pairs = events.users * len(catalogue) + events.items
        if repeated := len(pairs) - len(np.unique(pairs)):
            notes.append(f"{name}: {repeated:,} events repeat an earlier one of the same user and item")
    everything = np.unique(np.concatenate([events.items for events in parts.values()]))
    if unseen := len(catalogue) - len(everything):
        notes.append(f"{unseen:,} of {len(catalogue):,} items have no event: they can be found by their text alone")
    rare = np.bincount(parts["train"].items, minlength=len(catalogue))
    notes.append(f"{int(((rare > 0) & (rare < 5)).sum()):,} items have fewer than 5 events in the train part")
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if earlier in parts and later in parts:
            refuse_future(parts[earlier], parts[later], f"{earlier} and {later}")
    return notes


def refuse_future(known: Events, later: Events, place: str) -> None:
    """Raises DataError if a user has a later event that lies before one of his known events."""
    names = [name for name in later.user_names if name in known._user_index]
    for name in names:
        before, after = known.of_user(name).times, later.of_user(name).times
        if len(before) and len(after) and after.min() < before.max():
            raise DataError(
                f"{place}: user {name!r} has an event at {after.min()} in the later part, before {before.max()} in the "
                "earlier one: training would see the future. Split by time (apps.recommendation.prepare)."
            )
