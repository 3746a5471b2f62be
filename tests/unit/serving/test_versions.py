"""Which versions are served as folders come, go and break? [n]: number in the project's protocol checklist."""

import threading
import time

import pytest

from kerasllm.errors import ServingError
from serving.server.status import Code, StatusError
from serving.server.versions import LoadPolicy, ModelConfig, Models, State
from tests.unit.serving.version_folders import AT_ONCE, FakeEngine, add, config_of, served


def _models(base, load_policy=AT_ONCE, **policy):
    return Models([ModelConfig("m", base, **policy)], load=FakeEngine, policy=load_policy)


def test_the_newest_number_is_served_and_other_names_are_ignored(tmp_path):  # [30]
    for name in ("00000123", "124", "unfinished-1", "125.tmp", "v126"):
        add(tmp_path, name)
    models = _models(tmp_path)
    models.poll()
    with models.use("m") as (number, _):
        assert number == 124
    assert served(models) == [124]


def test_leading_zeros_do_not_count(tmp_path):  # [30]
    add(tmp_path, "00000123")
    models = _models(tmp_path)
    models.poll()
    with models.use("m", 123) as (number, _):
        assert number == 123


def test_a_new_version_takes_over_and_the_old_one_is_listed_as_ended(tmp_path):  # [31]
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    add(tmp_path, "2")
    models.poll()
    assert [(v.number, v.state) for v in models.versions("m")] == [(2, State.AVAILABLE), (1, State.END)]


def test_an_engine_in_use_is_closed_by_its_last_user(tmp_path):  # [31]
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    with models.use("m") as (_, engine), models.use("m"):
        add(tmp_path, "2")
        models.poll()
        assert served(models) == [2]
        assert models.versions("m")[1].state == State.UNLOADING
        assert not engine.closed
    assert engine.closed
    assert models.versions("m")[1].state == State.END


def test_removing_the_newest_version_rolls_back(tmp_path):  # [32]
    add(tmp_path, "1")
    add(tmp_path, "2")
    models = _models(tmp_path)
    models.poll()
    (tmp_path / "2" / "good").unlink()
    (tmp_path / "2").rmdir()
    models.poll()
    assert served(models) == [1]


def test_latest_all_and_specific_choose_versions(tmp_path):  # [33]
    for name in ("1", "2", "3"):
        add(tmp_path, name)
    for policy, expected in [({"latest": 2}, [3, 2]), ({"latest": None}, [3, 2, 1]), ({"specific": (1, 3, 9)}, [3, 1])]:
        models = _models(tmp_path, **policy)
        models.poll()
        assert served(models) == expected


def test_a_version_that_does_not_load_never_replaces_a_good_one_and_is_taken_once_whole(tmp_path):  # [34]
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    add(tmp_path, "2", good=False)
    models.poll()
    assert served(models) == [1]
    failed = models.versions("m")[0]
    assert (failed.state, str(failed.error)) == (State.END, "NOT_FOUND: nothing in 2")
    (tmp_path / "2" / "good").touch()
    models.poll()
    assert served(models) == [2]
    assert models.versions("m")[0].error is None


def test_an_unchanged_failure_is_not_loaded_again_before_its_time_and_stays_loading(tmp_path):
    add(tmp_path, "1", good=False)
    models = _models(tmp_path, LoadPolicy(max_retries=5, retry_seconds=60, rest_seconds=0))
    for _ in range(5):
        models.poll()
    version = models.versions("m")[0]
    assert (version.loads, version.state, models.load_attempts) == (1, State.LOADING, 1)


def test_an_unchanged_failure_is_given_up_after_its_retries(tmp_path):
    add(tmp_path, "1", good=False)
    models = _models(tmp_path, LoadPolicy(max_retries=2, retry_seconds=0, rest_seconds=0))
    for _ in range(6):
        models.poll()
    version = models.versions("m")[0]
    assert (version.loads, version.state, models.load_attempts) == (3, State.END, 3)


def test_removing_a_folder_ends_the_attempts_to_load_it(tmp_path):
    add(tmp_path, "1")
    add(tmp_path, "2", good=False)
    models = _models(tmp_path, LoadPolicy(rest_seconds=0))
    models.poll()
    assert models.versions("m")[0].state == State.LOADING
    (tmp_path / "2").rmdir()
    models.poll()
    assert [(v.number, v.state) for v in models.versions("m")] == [(2, State.END), (1, State.AVAILABLE)]


def test_the_start_tries_again_as_often_as_it_may(tmp_path):
    add(tmp_path, "1", good=False)
    models = _models(tmp_path, LoadPolicy(max_retries=3, retry_seconds=0.01, rest_seconds=0))
    with pytest.raises(ServingError, match="nothing in 1"):
        models.start(0)
    assert models.load_attempts == 4


def test_a_load_that_fails_in_an_unknown_way_harms_no_other_model(tmp_path):
    for name in ("a", "b"):
        add(tmp_path / name, "1")

    def load(folder):
        if folder.parent.name == "a":
            raise KeyError("surprise")
        return FakeEngine(folder)

    models = Models([config_of(tmp_path, "a"), config_of(tmp_path, "b")], load=load, policy=AT_ONCE)
    models.poll()
    assert [v.state for v in models.versions("b")] == [State.AVAILABLE]
    assert (models.versions("a")[0].state, models.versions("a")[0].error.code) == (State.END, Code.INTERNAL)


def test_a_link_to_nowhere_does_not_keep_a_version_waiting(tmp_path):
    add(tmp_path, "1")
    (tmp_path / "1" / "link").symlink_to(tmp_path / "nowhere")
    models = _models(tmp_path)
    models.poll()
    assert served(models) == [1]


def test_closing_does_not_wait_for_a_load_longer_than_it_should(tmp_path):
    add(tmp_path, "1")
    loading, go_on = threading.Event(), threading.Event()

    def load(folder):
        loading.set()
        go_on.wait()
        return FakeEngine(folder)

    models = Models([ModelConfig("m", tmp_path)], load=load, policy=AT_ONCE)
    thread = threading.Thread(target=models.start, args=(0,))
    thread.start()
    loading.wait()
    models.close(patience_seconds=0.01)
    assert models.is_busy()
    go_on.set()
    thread.join()
    models.close()
    assert not models.is_busy()


def test_a_folder_whose_files_have_just_changed_waits_until_they_are_at_rest(tmp_path):  # [34]
    add(tmp_path, "1")
    models = _models(tmp_path, LoadPolicy(rest_seconds=3600))
    models.poll()
    assert [(v.state, v.loads) for v in models.versions("m")] == [(State.START, 0)]
    models = _models(tmp_path, LoadPolicy(rest_seconds=0.2))
    models.start(0)  # waits, though it never looks for new versions
    assert served(models) == [1]
    models.close()


def test_at_the_start_the_newest_version_that_loads_is_served(tmp_path):
    add(tmp_path, "1")
    add(tmp_path, "2", good=False)
    models = _models(tmp_path)
    models.start(0)
    assert served(models) == [1]


def test_a_base_path_that_vanishes_leaves_the_versions_served(tmp_path):
    add(tmp_path / "base", "1")
    models = _models(tmp_path / "base")
    models.poll()
    (tmp_path / "base").rename(tmp_path / "gone")
    models.poll()
    assert served(models) == [1]


def test_an_empty_base_path_unloads_everything(tmp_path):
    add(tmp_path / "base", "1")
    models = _models(tmp_path / "base")
    models.poll()
    (tmp_path / "base" / "1").rename(tmp_path / "1")
    models.poll()
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(m\)"), models.use("m"):
        pass


def test_starting_fails_when_no_version_loads(tmp_path):
    add(tmp_path, "1", good=False)
    with pytest.raises(ServingError) as caught:
        _models(tmp_path).start(1)
    expected = "{{{name: m version: 1} due to error: NOT_FOUND: nothing in 1}, }"
    assert str(caught.value) == f"1 servable(s) did not become available: {expected}"


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_starting_without_versions_and_without_polling_fails(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match=str(tmp_path / name)):
        _models(tmp_path / name).start(0)


def test_starting_waits_for_a_first_version(tmp_path):  # [37]
    models = _models(tmp_path)
    thread = threading.Thread(target=models.start, args=(0.01,))
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    add(tmp_path / "elsewhere", "1")
    (tmp_path / "elsewhere" / "1").rename(tmp_path / "1")
    thread.join(10)
    assert served(models) == [1]
    models.close()
    assert served(models) == []


def test_closing_unloads_every_version(tmp_path):
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.start(0.01)
    with models.use("m") as (_, engine):
        pass
    models.close()
    assert engine.closed
