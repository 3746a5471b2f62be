"""Which versions are served as folders come, go and break? [n]: number in the project's protocol checklist."""

import threading
import time

import pytest

from kerasllm.errors import ServingError
from serving.server.labels import Labels
from serving.server.status import Code, StatusError
from serving.server.versions import LoadPolicy, ModelConfig, Models, State

AT_ONCE = LoadPolicy(max_retries=0, rest_seconds=0)


class FakeEngine:
    """Stands for a loaded model: a folder with a file named `good` loads, any other fails."""

    def __init__(self, folder):
        if not (folder / "good").exists():
            raise StatusError(Code.NOT_FOUND, f"nothing in {folder.name}")
        self.closed = False

    def close(self):
        self.closed = True


def _add(base, name, good=True):
    (base / name).mkdir(parents=True)
    if good:
        (base / name / "good").touch()


def _models(base, load_policy=AT_ONCE, **policy):
    return Models([ModelConfig("m", base, **policy)], load=FakeEngine, policy=load_policy)


def _served(models):
    return [version.number for version in models.versions("m") if version.state == State.AVAILABLE]


def test_the_newest_number_is_served_and_other_names_are_ignored(tmp_path):  # [30]
    for name in ("00000123", "124", "unfinished-1", "125.tmp", "v126"):
        _add(tmp_path, name)
    models = _models(tmp_path)
    models.poll()
    with models.use("m") as (number, _):
        assert number == 124
    assert _served(models) == [124]


def test_leading_zeros_do_not_count(tmp_path):  # [30]
    _add(tmp_path, "00000123")
    models = _models(tmp_path)
    models.poll()
    with models.use("m", 123) as (number, _):
        assert number == 123


def test_a_new_version_takes_over_and_the_old_one_is_listed_as_ended(tmp_path):  # [31]
    _add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    _add(tmp_path, "2")
    models.poll()
    assert [(v.number, v.state) for v in models.versions("m")] == [(2, State.AVAILABLE), (1, State.END)]


def test_an_engine_in_use_is_closed_by_its_last_user(tmp_path):  # [31]
    _add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    with models.use("m") as (_, engine), models.use("m"):
        _add(tmp_path, "2")
        models.poll()
        assert _served(models) == [2]
        assert models.versions("m")[1].state == State.UNLOADING
        assert not engine.closed
    assert engine.closed
    assert models.versions("m")[1].state == State.END


def test_removing_the_newest_version_rolls_back(tmp_path):  # [32]
    _add(tmp_path, "1")
    _add(tmp_path, "2")
    models = _models(tmp_path)
    models.poll()
    (tmp_path / "2" / "good").unlink()
    (tmp_path / "2").rmdir()
    models.poll()
    assert _served(models) == [1]


def test_latest_all_and_specific_choose_versions(tmp_path):  # [33]
    for name in ("1", "2", "3"):
        _add(tmp_path, name)
    for policy, expected in [({"latest": 2}, [3, 2]), ({"latest": None}, [3, 2, 1]), ({"specific": (1, 3, 9)}, [3, 1])]:
        models = _models(tmp_path, **policy)
        models.poll()
        assert _served(models) == expected


def test_a_version_that_does_not_load_never_replaces_a_good_one_and_is_taken_once_whole(tmp_path):  # [34]
    _add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    _add(tmp_path, "2", good=False)
    models.poll()
    assert _served(models) == [1]
    failed = models.versions("m")[0]
    assert (failed.state, str(failed.error)) == (State.END, "NOT_FOUND: nothing in 2")
    (tmp_path / "2" / "good").touch()
    models.poll()
    assert _served(models) == [2]
    assert models.versions("m")[0].error is None


def test_an_unchanged_failure_is_not_loaded_again_before_its_time_and_stays_loading(tmp_path):
    _add(tmp_path, "1", good=False)
    models = _models(tmp_path, LoadPolicy(max_retries=5, retry_seconds=60, rest_seconds=0))
    for _ in range(5):
        models.poll()
    version = models.versions("m")[0]
    assert (version.loads, version.state, models.load_attempts) == (1, State.LOADING, 1)


def test_an_unchanged_failure_is_given_up_after_its_retries(tmp_path):
    _add(tmp_path, "1", good=False)
    models = _models(tmp_path, LoadPolicy(max_retries=2, retry_seconds=0, rest_seconds=0))
    for _ in range(6):
        models.poll()
    version = models.versions("m")[0]
    assert (version.loads, version.state, models.load_attempts) == (3, State.END, 3)


def test_removing_a_folder_ends_the_attempts_to_load_it(tmp_path):
    _add(tmp_path, "1")
    _add(tmp_path, "2", good=False)
    models = _models(tmp_path, LoadPolicy(rest_seconds=0))
    models.poll()
    assert models.versions("m")[0].state == State.LOADING
    (tmp_path / "2").rmdir()
    models.poll()
    assert [(v.number, v.state) for v in models.versions("m")] == [(2, State.END), (1, State.AVAILABLE)]


def test_the_start_tries_again_as_often_as_it_may(tmp_path):
    _add(tmp_path, "1", good=False)
    models = _models(tmp_path, LoadPolicy(max_retries=3, retry_seconds=0.01, rest_seconds=0))
    with pytest.raises(ServingError, match="nothing in 1"):
        models.start(0)
    assert models.load_attempts == 4


def test_a_load_that_fails_in_an_unknown_way_harms_no_other_model(tmp_path):
    for name in ("a", "b"):
        _add(tmp_path / name, "1")

    def load(folder):
        if folder.parent.name == "a":
            raise KeyError("surprise")
        return FakeEngine(folder)

    models = Models([_config(tmp_path, "a"), _config(tmp_path, "b")], load=load, policy=AT_ONCE)
    models.poll()
    assert [v.state for v in models.versions("b")] == [State.AVAILABLE]
    assert (models.versions("a")[0].state, models.versions("a")[0].error.code) == (State.END, Code.INTERNAL)


def test_a_link_to_nowhere_does_not_keep_a_version_waiting(tmp_path):
    _add(tmp_path, "1")
    (tmp_path / "1" / "link").symlink_to(tmp_path / "nowhere")
    models = _models(tmp_path)
    models.poll()
    assert _served(models) == [1]


def test_closing_does_not_wait_for_a_load_longer_than_it_should(tmp_path):
    _add(tmp_path, "1")
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
    _add(tmp_path, "1")
    models = _models(tmp_path, LoadPolicy(rest_seconds=3600))
    models.poll()
    assert [(v.state, v.loads) for v in models.versions("m")] == [(State.START, 0)]
    models = _models(tmp_path, LoadPolicy(rest_seconds=0.2))
    models.start(0)  # waits, though it never looks for new versions
    assert _served(models) == [1]
    models.close()


def test_at_the_start_the_newest_version_that_loads_is_served(tmp_path):
    _add(tmp_path, "1")
    _add(tmp_path, "2", good=False)
    models = _models(tmp_path)
    models.start(0)
    assert _served(models) == [1]


def test_a_base_path_that_vanishes_leaves_the_versions_served(tmp_path):
    _add(tmp_path / "base", "1")
    models = _models(tmp_path / "base")
    models.poll()
    (tmp_path / "base").rename(tmp_path / "gone")
    models.poll()
    assert _served(models) == [1]


def test_an_empty_base_path_unloads_everything(tmp_path):
    _add(tmp_path / "base", "1")
    models = _models(tmp_path / "base")
    models.poll()
    (tmp_path / "base" / "1").rename(tmp_path / "1")
    models.poll()
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(m\)"), models.use("m"):
        pass


def test_starting_fails_when_no_version_loads(tmp_path):
    _add(tmp_path, "1", good=False)
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
    _add(tmp_path / "elsewhere", "1")
    (tmp_path / "elsewhere" / "1").rename(tmp_path / "1")
    thread.join(10)
    assert _served(models) == [1]
    models.close()
    assert _served(models) == []


def test_closing_unloads_every_version(tmp_path):
    _add(tmp_path, "1")
    models = _models(tmp_path)
    models.start(0.01)
    with models.use("m") as (_, engine):
        pass
    models.close()
    assert engine.closed


# Other configurations


def _config(base, name, **policy):
    return ModelConfig(name, base / name, **policy)


def test_a_reload_adds_removes_and_keeps_models(tmp_path):  # [27]
    for name in ("a", "b", "c"):
        _add(tmp_path / name, "1")
    models = Models([_config(tmp_path, "a"), _config(tmp_path, "b")], load=FakeEngine, policy=AT_ONCE)
    models.start(0)
    with models.use("b") as (_, kept):
        models.reload([_config(tmp_path, "b"), _config(tmp_path, "c")])
    assert models.names() == ["b", "c"]
    with models.use("b") as (_, engine), models.use("c"):
        assert engine is kept
    assert [v.state for v in models.versions("a")] == [State.END]
    with pytest.raises(StatusError, match=r"Latest\(a\)"), models.use("a"):
        pass
    models.reload([])
    assert models.names() == []
    models.reload([_config(tmp_path, "a")])
    with models.use("a") as (number, _):
        assert number == 1
    models.close()


def test_a_reload_waits_for_new_models_and_tells_of_those_that_fail(tmp_path):  # [27]
    _add(tmp_path / "a", "1")
    _add(tmp_path / "b", "1", good=False)
    models = Models([_config(tmp_path, "a")], load=FakeEngine, policy=AT_ONCE)
    models.start(0.01)
    with pytest.raises(StatusError) as caught:
        models.reload([_config(tmp_path, "a"), _config(tmp_path, "b")])
    text = "1 model(s) did not become available: {{{name: b version: 1} due to error: NOT_FOUND: nothing in 1}, }"
    assert (caught.value.code, caught.value.message) == (Code.UNKNOWN, text)
    reloaded = threading.Event()
    configs = [_config(tmp_path, "a"), _config(tmp_path, "later")]
    thread = threading.Thread(target=lambda: (models.reload(configs), reloaded.set()))
    thread.start()
    assert not reloaded.wait(0.1)
    _add(tmp_path / "elsewhere", "1")
    (tmp_path / "elsewhere").rename(tmp_path / "later")
    assert reloaded.wait(10)
    models.close()


def test_a_reload_that_nobody_waits_for_any_more_lets_the_next_one_in(tmp_path):
    _add(tmp_path / "a", "1")
    models = Models([_config(tmp_path, "a")], load=FakeEngine, policy=AT_ONCE)
    models.start(0.01)
    asked = iter([True, True, False])
    models.reload([_config(tmp_path, "a"), _config(tmp_path, "nowhere")], lambda: next(asked))
    models.reload([_config(tmp_path, "a")])
    assert models.names() == ["a"]
    models.close()


def test_a_reload_is_not_done_when_the_server_ends(tmp_path):
    _add(tmp_path / "a", "1")
    stopped = threading.Event()
    models = Models([_config(tmp_path, "a")], stopped, FakeEngine, AT_ONCE)
    models.start(0.01)
    threading.Timer(0.1, stopped.set).start()
    with pytest.raises(StatusError, match="UNAVAILABLE: The server is ending"):
        models.reload([_config(tmp_path, "nowhere")])
    models.close()


def test_other_wanted_versions_take_over_before_the_old_ones_go(tmp_path):  # [32] [33]
    for number in ("1", "2"):
        _add(tmp_path / "m", number)
    models = Models([_config(tmp_path, "m")], load=FakeEngine, policy=AT_ONCE)
    models.start(0)
    assert _served(models) == [2]
    models.reload([_config(tmp_path, "m", specific=(1,))])
    assert _served(models) == [1]
    models.reload([_config(tmp_path, "m", latest=None)])
    assert _served(models) == [2, 1]
    models.close()


def test_no_request_fails_while_configurations_and_folders_change(tmp_path):  # [27] [31]
    for number in ("1", "2", "3"):
        _add(tmp_path / "m", number)
    models = Models([_config(tmp_path, "m")], load=FakeEngine, policy=AT_ONCE)
    models.start(0.001)
    stop, failures, seen = threading.Event(), [], set()

    def ask():
        while not stop.is_set():
            try:
                with models.use("m") as (number, engine):
                    seen.add(number)
                    time.sleep(0)
                    assert not engine.closed
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        models.reload([_config(tmp_path, "m", specific=(1 + turn % 3,))])
    models.reload([_config(tmp_path, "m")])
    (tmp_path / "m" / "3").rename(tmp_path / "3")
    while _served(models) != [2]:
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    models.close()
    assert failures == []
    assert seen == {1, 2, 3}


def test_labels_name_versions_that_can_answer(tmp_path):  # [5] [6]
    for number in ("1", "2"):
        _add(tmp_path / "m", number)
    models = Models([_config(tmp_path, "m", latest=2)], load=FakeEngine, policy=AT_ONCE)
    models.start(0)
    models.reload([_config(tmp_path, "m", latest=2, labels={"stable": 1, "canary": 2})])
    with models.use("m", label="stable") as (stable, _), models.use("m", label="canary") as (canary, _):
        assert (stable, canary) == (1, 2)
    with pytest.raises(StatusError) as caught:
        models.reload([_config(tmp_path, "m", latest=1, labels={"stable": 3})])
    text = "Request to assign label to version 3 of model m, which is not currently available for inference"
    assert (caught.value.code, caught.value.message) == (Code.FAILED_PRECONDITION, text)
    assert _served(models) == [2, 1]  # nothing of that configuration was taken over
    for label in ("other", ""):
        with pytest.raises(StatusError, match=f"Unrecognized servable version label: {label}"):
            models.use("m", label=label).__enter__()
    models.close()


def test_labels_at_the_start_need_the_flag(tmp_path):  # [35]
    _add(tmp_path / "m", "1")
    config = _config(tmp_path, "m", labels={"stable": 1})
    with pytest.raises(StatusError, match="FAILED_PRECONDITION: Request to assign label to version 1 of model m"):
        Models([config], load=FakeEngine, policy=AT_ONCE).start(0)
    models = Models([config], load=FakeEngine, policy=AT_ONCE, labels=Labels(may_be_unavailable=True))
    models.start(0)
    with models.use("m", label="stable") as (number, _):
        assert number == 1
    with pytest.raises(StatusError, match="version 2"):  # moves an existing label: not even with the flag
        models.reload([_config(tmp_path, "m", labels={"stable": 2})])
    models.close()
