"""What becomes of a version whose process ends by itself? It is loaded again, and an older one serves meanwhile."""

import threading
import time

import pytest

from serving.server.status import Code, StatusError
from serving.server.versions import ModelConfig, Models, State
from tests.unit.serving.version_folders import AT_ONCE, FakeEngine, add, served


def _models(base):
    return Models([ModelConfig("m", base)], load=FakeEngine, policy=AT_ONCE)


def _end_process(models):
    """What the engine of the served version says from now on; returns the engine."""
    with models.use("m") as (_, engine):
        engine.end = StatusError(Code.UNAVAILABLE, "its process has ended")
    return engine


def test_a_version_whose_process_has_ended_is_loaded_again_at_once(tmp_path):
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    ended = _end_process(models)
    models.poll(is_looking=False)
    assert ended.closed
    assert models.load_attempts == 2
    with models.use("m") as (number, engine):
        assert (number, engine.end) == (1, None)


def test_who_still_uses_a_version_whose_process_has_ended_does_not_hold_up_the_new_one(tmp_path):
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    with models.use("m"):
        ended = _end_process(models)
        models.poll(is_looking=False)
        assert not ended.closed
        with models.use("m") as (_, engine):
            assert engine is not ended
    assert ended.closed
    assert not engine.closed


def test_one_that_ends_again_soon_waits_longer_each_time_and_is_unavailable_meanwhile(tmp_path):
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    _end_process(models)
    models.poll()
    for wait_s in (1, 2, 4):
        _end_process(models)
        now = time.monotonic()
        models.poll()
        (version,) = models.versions("m")
        assert version.state == State.LOADING
        assert wait_s <= version.due_at - now < wait_s + 1
        for number in (None, 1):
            with pytest.raises(StatusError, match="UNAVAILABLE: Version 1 of m: its process has ended"):
                models.use("m", number).__enter__()
        with pytest.raises(StatusError, match=r"Specific\(m, 7\)"):
            models.use("m", 7).__enter__()
        version.due_at = now  # the time has come
        models.poll()
        assert served(models) == [1]


def test_one_that_has_served_long_before_it_ended_does_not_wait(tmp_path):
    add(tmp_path, "1")
    models = _models(tmp_path)
    models.poll()
    for _ in range(3):
        models.versions("m")[0].loaded_at -= 1000.0
        _end_process(models)
        models.poll()
        assert served(models) == [1]


def test_while_one_waits_to_be_loaded_again_an_older_version_serves(tmp_path):
    add(tmp_path, "1")
    add(tmp_path, "2")
    models = _models(tmp_path)
    models.poll()
    for _ in range(2):
        _end_process(models)
        models.poll()
    with models.use("m") as (number, _):
        assert number == 1
    models.versions("m")[0].due_at = time.monotonic()
    models.poll()
    assert served(models) == [2]


def test_the_end_of_a_process_wakes_the_thread_that_loads(tmp_path):
    add(tmp_path, "1")
    has_ended = threading.Event()
    models = Models([ModelConfig("m", tmp_path)], load=FakeEngine, policy=AT_ONCE, has_ended=has_ended)
    models.start(3600)
    try:
        ended = _end_process(models)
        has_ended.set()
        for _ in range(1000):
            if ended.closed and served(models) == [1]:
                break
            time.sleep(0.01)
        assert models.load_attempts == 2
    finally:
        models.close()
