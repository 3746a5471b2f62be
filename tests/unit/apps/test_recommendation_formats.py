"""Are logs and items of the named forms read as they are meant?"""

import json

import pytest

from apps.recommendation import formats, judging
from kerasllm.data.interactions import make_events
from kerasllm.errors import ConfigError, DataError

VALUES = {"view": 3.0, "click": 4.0}


def write_items(path, *items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_movielens_items_have_title_genres_and_plot_as_text(tmp_path):
    item = {
        "item_id": 1,
        "title": "Toys (1995)",
        "genres": ["Comedy"],
        "release_date": "02-Jan-1970",
        "synopsis": "Fun.",
    }
    catalogue = formats.read_items(f"movielens={write_items(tmp_path / 'items.jsonl', item)}")
    assert catalogue.ids == ("1",)
    assert catalogue.texts == ("Toys (1995). Comedy. Fun",)
    assert catalogue.categories == (("Comedy",),)
    assert catalogue.released.tolist() == [86_400.0]


def test_events_without_a_value_are_worth_what_the_settings_say(tmp_path):
    (tmp_path / "log.tsv").write_text("user\titem\ttime\tevent\nann\ta\t5\tclick\n")
    assert formats.read_log(f"{tmp_path}/log.tsv", {"a": 0}, VALUES, False) == [("ann", 0, 5, 4.0)]


def test_an_unknown_event_is_named(tmp_path):
    (tmp_path / "log.tsv").write_text("user\titem\ttime\tevent\nann\ta\t5\tlike\n")
    with pytest.raises(DataError, match=r"log.tsv:2: no value, and event='like' is not in recommendation.event_values"):
        formats.read_log(f"{tmp_path}/log.tsv", {"a": 0}, VALUES, False)


def test_unknown_items_are_errors_unless_they_are_to_be_dropped(tmp_path):
    (tmp_path / "log.tsv").write_text("user\titem\ttime\tvalue\nann\ta\t5\t4\nann\tb\t6\t4\n")
    with pytest.raises(DataError, match=r"log.tsv:3: item 'b' is not among the items"):
        formats.read_log(f"{tmp_path}/log.tsv", {"a": 0}, {}, False)
    assert len(formats.read_log(f"{tmp_path}/log.tsv", {"a": 0}, {}, True)) == 1


def test_ids_that_a_request_could_not_hold_are_refused(tmp_path):
    path = write_items(tmp_path / "items.jsonl", {"item": "a,b", "title": "Both"})
    with pytest.raises(DataError, match="holds a comma"):
        formats.read_items(str(path))


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="no format 'netflix'"):
        formats.read_items("netflix=items.jsonl")


def test_users_without_anything_to_find_are_not_judged():
    later = make_events([("ann", 0, 5, 4.0), ("bob", 1, 5, 2.0)])
    assert judging.judged_users(later, 4.0) == ["ann"]
