"""Is a log cut by time, and does no row of a batch see what came after its target?"""

import numpy as np
import pytest

from kerasllm.config import DISLIKED, LIKED, NEUTRAL, make_run
from kerasllm.data import interactions
from kerasllm.data.interactions import Catalogue, Events, make_events
from kerasllm.data.item_tables import DAY, Popularity, closeness, fit_affinity, foretell_appeal, make_tables
from kerasllm.data.next_items import NextItems, levels, liked_places
from kerasllm.errors import DataError

RUN = make_run(
    {
        "objective": {"task": "recommendation"},
        "recommendation": {"history_length": 4, "num_negatives": 6, "table_strength": 1.0, "table_folds": 2},
        "train": {"epochs": 1, "global_batch": 8},
    }
)
NUM_ITEMS = 12


def a_catalogue(num_items: int = NUM_ITEMS) -> Catalogue:
    names = tuple(str(number) for number in range(num_items))
    categories = tuple(("even",) if number % 2 == 0 else ("odd", "rare") for number in range(num_items))
    return Catalogue(names, names, names, categories, np.full(num_items, 0.0))


def a_log(seed: int = 0, num_users: int = 6, length: int = 10) -> Events:
    random = np.random.default_rng(seed)
    rows = [
        (f"user{user}", int(item), 1000 * (place + 1) + user, float(random.integers(1, 6)))
        for user in range(num_users)
        for place, item in enumerate(random.permutation(NUM_ITEMS)[:length])
    ]
    return make_events(rows)


def some_tables(log: Events):
    text = np.random.default_rng(1).normal(size=(NUM_ITEMS, 5)).astype(np.float32)
    return make_tables(a_catalogue(), log, text, RUN.recommendation)


def test_the_last_fifth_of_each_user_is_the_test_and_then_the_last_fifth_of_the_rest():
    # 10 events: 2 for the test; of 8, round(1.6) = 2 for validation; 6 stay.
    parts = interactions.split_by_time(a_log(), 0.2, 0.2)
    assert [np.bincount(parts[name].users).tolist() for name in parts] == [[6] * 6, [2] * 6, [2] * 6]
    for user in parts["train"].user_names:
        train, test = parts["train"].of_user(user), parts["test"].of_user(user)
        assert train.times.max() < parts["validation"].of_user(user).times.min() <= test.times.min()


def test_parts_in_the_wrong_order_are_refused():
    parts = interactions.split_by_time(a_log(), 0.2, 0.2)
    with pytest.raises(DataError, match="training would see the future"):
        interactions.findings({"train": parts["test"], "validation": parts["train"]}, a_catalogue())


def test_items_held_out_whole_leave_every_part():
    parts = interactions.hold_out_items(interactions.split_by_time(a_log(), 0.2, 0.2), NUM_ITEMS, 0.25, seed=3)
    cold = interactions.choose_items(NUM_ITEMS, 0.25, seed=3)
    assert cold.sum() == 3
    assert cold[parts["cold"].items].all()
    assert not any(cold[parts[name].items].any() for name in ("train", "validation", "test"))


def test_events_survive_writing_and_reading(tmp_path):
    log, catalogue = a_log(), a_catalogue()
    interactions.write_events(log, catalogue, tmp_path / "events.tsv")
    interactions.write_catalogue(catalogue, tmp_path / "items.jsonl")
    again = interactions.read_events(tmp_path / "events.tsv", interactions.read_catalogue(tmp_path / "items.jsonl"))
    assert again.user_names == log.user_names
    for column in ("users", "items", "times", "values"):
        np.testing.assert_array_equal(getattr(again, column), getattr(log, column))


def test_an_unknown_item_is_named_with_its_row(tmp_path):
    (tmp_path / "events.tsv").write_text("user\titem\ttime\tvalue\nann\t3\t5\t4\nann\tnine\t6\t4\n")
    with pytest.raises(DataError, match=r"events.tsv:3: item 'nine' is not in the catalogue"):
        interactions.read_events(tmp_path / "events.tsv", a_catalogue())


def test_logs_join_by_the_names_of_the_users():
    first, second = make_events([("ann", 0, 5, 4.0)]), make_events([("bob", 1, 6, 4.0), ("ann", 2, 4, 1.0)])
    both = first.with_events(second)
    assert both.of_user("ann").items.tolist() == [2, 0]  # by time
    assert both.of_user("bob").items.tolist() == [1]
    assert len(both.of_user("carl")) == 0


def test_values_become_three_levels():
    assert levels(np.array([1.0, 2.0, 3.0, 4.0]), RUN.recommendation).tolist() == [DISLIKED, DISLIKED, NEUTRAL, LIKED]


def test_popularity_counts_what_lies_strictly_before_the_moment():
    log = make_events([("ann", 0, 100, 4.0), ("bob", 0, 200, 4.0), ("bob", 1, 300, 4.0)])
    features = Popularity(log, a_catalogue(2), recent_days=1).features(
        np.array([1, 1, 1, 2]), np.array([100, 200, 201, 301])
    )
    # Events of the item before the moment, and of the mean of 2 items: 0 and 0, 1 and 1/2, 2 and 1, 1 and 3/2.
    expected = np.log([1 / 1, 2 / 1.5, 3 / 2, 2 / 2.5])
    np.testing.assert_allclose(features[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(features[0, 2], np.log1p(100 / DAY) / 5, atol=1e-6)


def test_recent_popularity_forgets():
    log = make_events([("ann", 0, 0, 4.0), ("bob", 1, int(9 * DAY), 4.0)])
    features = Popularity(log, a_catalogue(2), recent_days=2).features(np.array([1, 2]), np.full(2, int(10 * DAY)))
    # In the window: 0 and 1 events, the mean item has 1/2.
    np.testing.assert_allclose(features[:, 1], np.log([1 / 1.5, 2 / 1.5]), atol=1e-6)


def test_the_popularity_of_a_category_is_that_of_its_other_items():
    # Items 0, 2 and 4 are "even", 1 and 3 "odd" and "rare"; item numbers count from 1.
    rows = [("ann", 0, 100, 4.0), ("bob", 0, 200, 4.0), ("ann", 2, 300, 4.0), ("bob", 1, 400, 4.0)]
    popularity = Popularity(make_events(rows), a_catalogue(5), recent_days=1)
    known = popularity.features(np.array([1, 3, 5, 2, 4]), np.full(5, 500))
    # Events per other item: (0 + 1) / 2 beside item 0, (2 + 0) / 2, (2 + 1) / 2; none beside item 1, item 1's beside 3.
    expected = np.log((np.array([1 / 2, 2 / 2, 3 / 2, 0, 1]) + 1) / (4 / 5 + 1))
    np.testing.assert_allclose(known[:, 3], expected, atol=1e-6)
    np.testing.assert_allclose(popularity.features(np.array([5]), np.array([201]))[0, 3], np.log(2 / (2 / 5 + 1)))
    grown = Popularity(make_events(rows), a_catalogue(9), recent_days=1, num_items=5)
    np.testing.assert_array_equal(grown.features(np.array([1, 3, 5, 2, 4]), np.full(5, 500)), known)


def test_the_appeal_of_an_item_is_foretold_from_others():
    # Items of two kinds, the second liked 20 times as often; the last two have no events.
    kind = np.arange(43) % 2
    likes = np.where(kind, 60, 3)
    is_known = np.arange(43) < 41
    is_known[0] = False  # no item
    found = foretell_appeal(np.eye(2)[kind] * 5, likes, is_known)
    assert found[41] > 0.5 > -0.5 > found[42]  # 41 is of the second kind
    assert found[0] == 0
    fewer = np.where(np.arange(43) == 7, 3, likes)
    logs = [np.log1p(each)[is_known] for each in (likes, fewer)]
    before, after = (
        foretell_appeal(np.eye(2)[kind] * 5, each, is_known) * log.std() + log.mean()
        for each, log in zip((likes, fewer), logs, strict=True)
    )
    # The likes of item 7 move what is foretold of 9, of its kind and another fold, and hardly what is of 7 itself.
    assert abs(after[7] - before[7]) < 0.2 * abs(after[9] - before[9])
    assert not foretell_appeal(np.eye(2)[kind], np.zeros(43), is_known).any()


def test_ease_of_two_items_that_go_together():
    # Two users with both items: G = [[2, 2], [2, 2]] + 1; its inverse is [[3, -2], [-2, 3]] / 5; weight 2 / 3.
    import scipy.sparse

    weights = closeness(scipy.sparse.csr_matrix(np.ones([2, 2], np.float32)), 1.0)
    np.testing.assert_allclose(weights, [[0, 2 / 3], [2 / 3, 0]], atol=1e-6)


def test_what_was_liked_soon_afterwards_has_a_direction():
    log = make_events([("ann", 0, 1, 5.0), ("ann", 1, 2, 5.0)])
    tables = fit_affinity(log, np.array([0, 1, 2]), RUN.recommendation)
    assert tables[1, 2, 2] == pytest.approx(20 * 1 / (1 + 20))  # scale * (1 / 1 step) / (1 event + 20)
    assert tables[2, 1, 2] == 0


def test_the_future_of_the_log_changes_no_row_before_it():
    """Everything after a moment is altered; rows whose targets lie before it stay as they are, bit for bit."""
    log = a_log()
    moment = 6000
    later = log.times >= moment
    random = np.random.default_rng(9)
    items, values = log.items.copy(), log.values.copy()
    items[later] = random.integers(0, NUM_ITEMS, later.sum())
    values[later] = random.integers(1, 6, later.sum())
    altered = Events(log.user_names, log.users, items, log.times, values)
    targets = np.flatnonzero((log.values >= 4) & ~later)
    candidates = np.tile(np.arange(1, NUM_ITEMS + 1), (len(targets), 1))
    seen = []
    for each in (log, altered):
        examples = NextItems(each, targets, a_catalogue(), some_tables(log), RUN, training=False)
        given = examples.seen_before(targets)
        side = examples.popularity.features(candidates, np.broadcast_to(given["now"][:, None], candidates.shape))
        seen.append({**given, "side": side})
    for key, before in seen[0].items():
        np.testing.assert_array_equal(before, seen[1][key], err_msg=key)
    changed = Popularity(altered, a_catalogue(), 14).features(np.arange(1, NUM_ITEMS + 1), np.full(NUM_ITEMS, 99_999))
    unchanged = Popularity(log, a_catalogue(), 14).features(np.arange(1, NUM_ITEMS + 1), np.full(NUM_ITEMS, 99_999))
    assert not np.array_equal(changed, unchanged)  # the alteration is one that would be seen


def test_affinities_of_a_training_row_do_not_know_its_user():
    log = a_log()
    tables = some_tables(log)
    own = log.users == 0
    others = Events(log.user_names, log.users, np.where(own, log.items[::-1], log.items), log.times, log.values)
    rows = []
    for each in (log, others):
        examples = NextItems(each, liked_places(log, RUN.recommendation), a_catalogue(), tables, RUN, training=True)
        rows.append(examples._affinities[0])  # of the fold of user 0
    np.testing.assert_array_equal(rows[0], rows[1])


def test_a_batch_has_the_target_first_and_no_item_of_the_user_among_the_negatives():
    log = a_log()
    examples = NextItems(
        log, liked_places(log, RUN.recommendation), a_catalogue(), some_tables(log), RUN, training=True
    )
    batch = examples.batch(0)
    assert batch["history"].shape == (8, 4)
    assert batch["affinity"].shape == (8, 4, 7, 3)
    had = {user: set(log.of_user(user).items + 1) for user in log.user_names}
    for row in range(8):
        target, *negatives = batch["candidates"][row]
        owners = [user for user in had if target in had[user] and {*batch["history"][row]} - {0} <= had[user]]
        assert any(not (set(negatives) - {0}) & had[user] for user in owners)


def test_a_step_is_always_the_same_batch():
    log = a_log()

    def make() -> NextItems:
        targets = liked_places(log, RUN.recommendation)
        return NextItems(log, targets, a_catalogue(), some_tables(log), RUN, training=True)

    first, again = make().batch(5), make().batch(5)
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["candidates"], make().batch(6)["candidates"])
