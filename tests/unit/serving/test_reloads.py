"""Do other configurations and labels take over while models answer? [n]: number in the project's protocol checklist."""

import threading
import time

import pytest

from serving.server.labels import Labels
from serving.server.status import Code, StatusError
from serving.server.versions import Models, State
from tests.unit.serving.version_folders import AT_ONCE, FakeEngine, add, config_of, served


def test_a_reload_adds_removes_and_keeps_models(tmp_path):  # [27]
    for name in ("a", "b", "c"):
        add(tmp_path / name, "1")
    models = Models([config_of(tmp_path, "a"), config_of(tmp_path, "b")], load=FakeEngine, policy=AT_ONCE)
    models.start(0)
    with models.use("b") as (_, kept):
        models.reload([config_of(tmp_path, "b"), config_of(tmp_path, "c")])
    assert models.names() == ["b", "c"]
    with models.use("b") as (_, engine), models.use("c"):
        assert engine is kept
    assert [v.state for v in models.versions("a")] == [State.END]
    with pytest.raises(StatusError, match=r"Latest\(a\)"), models.use("a"):
        pass
    models.reload([])
    assert models.names() == []
    models.reload([config_of(tmp_path, "a")])
    with models.use("a") as (number, _):
        assert number == 1
    models.close()


def test_a_reload_waits_for_new_models_and_tells_of_those_that_fail(tmp_path):  # [27]
    add(tmp_path / "a", "1")
    add(tmp_path / "b", "1", good=False)
    models = Models([config_of(tmp_path, "a")], load=FakeEngine, policy=AT_ONCE)
    models.start(0.01)
    with pytest.raises(StatusError) as caught:
        models.reload([config_of(tmp_path, "a"), config_of(tmp_path, "b")])
    text = "1 model(s) did not become available: {{{name: b version: 1} due to error: NOT_FOUND: nothing in 1}, }"
    assert (caught.value.code, caught.value.message) == (Code.UNKNOWN, text)
    reloaded = threading.Event()
    configs = [config_of(tmp_path, "a"), config_of(tmp_path, "later")]
    thread = threading.Thread(target=lambda: (models.reload(configs), reloaded.set()))
    thread.start()
    assert not reloaded.wait(0.1)
    add(tmp_path / "elsewhere", "1")
    (tmp_path / "elsewhere").rename(tmp_path / "later")
    assert reloaded.wait(10)
    models.close()


def test_a_reload_that_nobody_waits_for_any_more_lets_the_next_one_in(tmp_path):
    add(tmp_path / "a", "1")
    models = Models([config_of(tmp_path, "a")], load=FakeEngine, policy=AT_ONCE)
    models.start(0.01)
    asked = iter([True, True, False])
    models.reload([config_of(tmp_path, "a"), config_of(tmp_path, "nowhere")], lambda: next(asked))
    models.reload([config_of(tmp_path, "a")])
    assert models.names() == ["a"]
    models.close()


def test_a_reload_is_not_done_when_the_server_ends(tmp_path):
    add(tmp_path / "a", "1")
    stopped = threading.Event()
    models = Models([config_of(tmp_path, "a")], stopped, FakeEngine, AT_ONCE)
    models.start(0.01)
    threading.Timer(0.1, stopped.set).start()
    with pytest.raises(StatusError, match="UNAVAILABLE: The server is ending"):
        models.reload([config_of(tmp_path, "nowhere")])
    models.close()


def test_other_wanted_versions_take_over_before_the_old_ones_go(tmp_path):  # [32] [33]
    for number in ("1", "2"):
        add(tmp_path / "m", number)
    models = Models([config_of(tmp_path, "m")], load=FakeEngine, policy=AT_ONCE)
    models.start(0)
    assert served(models) == [2]
    models.reload([config_of(tmp_path, "m", specific=(1,))])
    assert served(models) == [1]
    models.reload([config_of(tmp_path, "m", latest=None)])
    assert served(models) == [2, 1]
    models.close()


def test_no_request_fails_while_configurations_and_folders_change(tmp_path):  # [27] [31]
    for number in ("1", "2", "3"):
        add(tmp_path / "m", number)
    models = Models([config_of(tmp_path, "m")], load=FakeEngine, policy=AT_ONCE)
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
        models.reload([config_of(tmp_path, "m", specific=(1 + turn % 3,))])
        while 1 + turn % 3 not in seen and not failures:
            time.sleep(0.001)
    models.reload([config_of(tmp_path, "m")])
    (tmp_path / "m" / "3").rename(tmp_path / "3")
    while served(models) != [2]:
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    models.close()
    assert failures == []
    assert seen == {1, 2, 3}


def test_labels_name_versions_that_can_answer(tmp_path):  # [5] [6]
    for number in ("1", "2"):
        add(tmp_path / "m", number)
    models = Models([config_of(tmp_path, "m", latest=2)], load=FakeEngine, policy=AT_ONCE)
    models.start(0)
    models.reload([config_of(tmp_path, "m", latest=2, labels={"stable": 1, "canary": 2})])
    with models.use("m", label="stable") as (stable, _), models.use("m", label="canary") as (canary, _):
        assert (stable, canary) == (1, 2)
    with pytest.raises(StatusError) as caught:
        models.reload([config_of(tmp_path, "m", latest=1, labels={"stable": 3})])
    text = "Request to assign label to version 3 of model m, which is not currently available for inference"
    assert (caught.value.code, caught.value.message) == (Code.FAILED_PRECONDITION, text)
    assert served(models) == [2, 1]  # nothing of that configuration was taken over
    for label in ("other", ""):
        with pytest.raises(StatusError, match=f"Unrecognized servable version label: {label}"):
            models.use("m", label=label).__enter__()
    models.close()


def test_labels_at_the_start_need_the_flag(tmp_path):  # [35]
    add(tmp_path / "m", "1")
    labelled = config_of(tmp_path, "m", labels={"stable": 1})
    with pytest.raises(StatusError, match="FAILED_PRECONDITION: Request to assign label to version 1 of model m"):
        Models([labelled], load=FakeEngine, policy=AT_ONCE).start(0)
    models = Models([labelled], load=FakeEngine, policy=AT_ONCE, labels=Labels(may_be_unavailable=True))
    models.start(0)
    with models.use("m", label="stable") as (number, _):
        assert number == 1
    with pytest.raises(StatusError, match="version 2"):  # moves an existing label: not even with the flag
        models.reload([config_of(tmp_path, "m", labels={"stable": 2})])
    models.close()
