"""Which versions are served as folders come, go and break? [n]: number in the project's protocol checklist."""

import threading
import time

import pytest

from kerasllm.errors import ServingError
from serving.server.status import Code, StatusError
from serving.server.versions import MAX_LOADS, ModelConfig, Models, State


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


def _models(base, **policy):
    return Models([ModelConfig("m", base, **policy)], load=FakeEngine)


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


def test_an_unchanged_failure_is_not_loaded_again_at_every_look(tmp_path):
    _add(tmp_path, "1", good=False)
    models = _models(tmp_path)
    for _ in range(5):
        models.poll()
    assert models.versions("m")[0].loads == 1


def test_an_unchanged_failure_is_given_up_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.server.versions.RETRY_SECONDS", 0.0)
    _add(tmp_path, "1", good=False)
    models = _models(tmp_path)
    for _ in range(2 * MAX_LOADS):
        models.poll()
    assert models.versions("m")[0].loads == MAX_LOADS


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
