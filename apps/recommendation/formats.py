"""In which public forms do logs and items come? Each by name: which column or field is what."""

import calendar
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import ConfigError, DataError


@dataclass(frozen=True)
class ItemFormat:
    """Which fields of items.jsonl say what; fields that an item lacks are left out.

    Attributes:
      item: the id.
      title: for people.
      texts: what is said of the item, beside title and categories.
      categories: a list, or a string with commas.
      released: date or seconds.
      read_released: turns that field into seconds, or NaN.
    """

    item: str = "item"
    title: str = "title"
    texts: tuple[str, ...] = ("description", "tags")
    categories: str = "categories"
    released: str = "released"
    read_released: Callable[[Any], float] = float


@dataclass(frozen=True)
class EventFormat:
    """Which columns of the log say what."""

    user: str = "user"
    item: str = "item"
    time: str = "time"
    value: str = "value"  # may be missing where there is `event`
    event: str = "event"  # view, click, ...: recommendation.event_values says what each is worth


def _day(text: str) -> float:
    """Seconds of a date such as 01-Jan-1995; NaN for none."""
    try:
        return float(calendar.timegm(time.strptime(text, "%d-%b-%Y")))
    except ValueError:
        return float("nan")


ITEM_FORMATS = {
    "items": ItemFormat(),
    # MovieLens 100K (Harper & Konstan 2015) joined with plots
    "movielens": ItemFormat(
        "item_id", "title", ("synopsis", "storyline", "keywords", "directors"), "genres", "release_date", _day
    ),
    "sample_world": ItemFormat("item_id", "title", ("synopsis", "title_zh", "synopsis_zh"), "genres"),
}
EVENT_FORMATS = {
    "events": EventFormat(),
    "movielens": EventFormat("user_id", "item_id", "timestamp", "rating"),
    "sample_world": EventFormat("user_id", "item_id", "timestamp", "rating"),
}


def read_items(spec: str) -> Any:
    """The catalogue of `FORMAT=FILE`, or of `FILE` in the form `items`.

    Raises:
      ConfigError: no format of that name.
      DataError: naming file and line: a field is missing or no date, or an item stands there twice.
    """
    from kerasllm.data import read_columns
    from kerasllm.data.interactions import Catalogue

    form, path = _form(spec, ITEM_FORMATS, "items", "--items")
    rows: dict[str, tuple[str, str, tuple[str, ...], float]] = {}
    for row, fields in read_columns(path, [form.item, form.title]):
        item, title = fields[form.item], " ".join(fields[form.title].split())
        if item in rows:
            raise DataError(f"{path}:{row}: item {item!r} stands there twice. Keep one of the two.")
        if not item or set(item) & set(",:\t"):
            raise DataError(f"{path}:{row}: id {item!r} is empty or holds a comma, colon or tab: requests list ids.")
        categories = _words(fields.get(form.categories, ""))
        texts = [" ".join(", ".join(_words(fields.get(name, ""), comma=False)).split()) for name in form.texts]
        text = ". ".join(part.rstrip(".") for part in (title, ", ".join(categories), *texts) if part)
        if not text:
            raise DataError(f"{path}:{row}: item {item!r} has neither title nor text. Remove it or describe it.")
        rows[item] = title, text, categories, _released(form, fields.get(form.released, ""), f"{path}:{row}")
    return Catalogue(
        ids=tuple(rows),
        titles=tuple(row[0] for row in rows.values()),
        texts=tuple(row[1] for row in rows.values()),
        categories=tuple(row[2] for row in rows.values()),
        released=np.array([row[3] for row in rows.values()], np.float64),
    )


def read_log(spec: str, index: Mapping[str, int], values: Mapping[str, float], drop_unknown: bool) -> list[Any]:
    """Rows user, item index, seconds, value of `FORMAT=FILE`, or of `FILE` in the form `events`.

    Args:
      spec: which file.
      index: of the items by id.
      values: what an event without a value is worth, by its type.
      drop_unknown: events of items that `index` lacks are left out; without it they are errors.
    """
    form, path = _form(spec, EVENT_FORMATS, "events", "--events")
    rows = list(_rows(path, form, index, values, drop_unknown))
    if not rows:
        raise DataError(f"{path}: no event of a known item. Do --items and --events belong together?")
    return rows


def _rows(
    path: Path, form: EventFormat, index: Mapping[str, int], values: Mapping[str, float], drop_unknown: bool
) -> Iterator[tuple[str, int, int, float]]:
    from kerasllm.data import read_columns

    for row, fields in read_columns(path, [form.user, form.item, form.time]):
        item, place = fields[form.item], f"{path}:{row}"
        if item not in index:
            if drop_unknown:
                continue
            raise DataError(f"{place}: item {item!r} is not among the items. Add it there, or give --drop_unknown.")
        try:
            yield fields[form.user], index[item], int(float(fields[form.time])), _value(fields, form, values, place)
        except ValueError:
            raise DataError(
                f"{place}: {form.time}={fields[form.time]!r} or {form.value}={fields.get(form.value)!r} is not a "
                "number. Times are seconds; mend the row."
            ) from None


def _value(fields: Mapping[str, str], form: EventFormat, values: Mapping[str, float], place: str) -> float:
    if fields.get(form.value):
        return float(fields[form.value])
    event = fields.get(form.event, "")
    if event not in values:
        raise DataError(
            f"{place}: no {form.value}, and {form.event}={event!r} is not in recommendation.event_values "
            f"({', '.join(values)}). Say there what it is worth."
        )
    return values[event]


def _form(spec: str, forms: Mapping[str, Any], default: str, flag: str) -> tuple[Any, Path]:
    name, equals, file = spec.partition("=")
    if not equals:
        name, file = default, spec
    if name not in forms:
        raise ConfigError(f"{flag} {spec}: no format {name!r}. There are: {', '.join(forms)}.")
    return forms[name], Path(file)


def _words(text: str, comma: bool = True) -> tuple[str, ...]:
    """The parts of a JSON list, or of a text with commas; `read_columns` gives lists as JSON."""
    if text in ("", "null"):
        return ()
    if text.startswith("["):
        parts: Sequence[Any] = json.loads(text)
        return tuple(str(part).strip().replace(",", "") for part in parts)
    return tuple(part.strip() for part in text.split(",") if part.strip()) if comma else (text,)


def _released(form: ItemFormat, text: str, place: str) -> float:
    if text in ("", "null"):
        return float("nan")
    try:
        return form.read_released(text)
    except ValueError:
        raise DataError(f"{place}: {form.released}={text!r} is not a time in seconds. Mend or remove it.") from None
