"""What is certain after a kill? Torn lines, logs ahead of the state, and alerts of the last commit."""

import json

import pytest

from apps.financial_sentiment.monitoring.journal import Journal, read_log
from kerasllm.errors import ConfigError, DataError

SETTINGS = {"step_s": 60}


def reopened(folder):
    journal = Journal(folder, SETTINGS)
    journal.close()
    return journal


def commit(folder, number, alerts=(), **logs):
    journal = Journal(folder, SETTINGS)
    journal.commit({"number": number}, [{"id": alert} for alert in alerts], **logs)
    journal.close()


def ids(folder):
    return [alert["id"] for alert in read_log(folder / "alerts.jsonl")]


def test_the_last_commit_is_what_a_start_finds(tmp_path):
    assert reopened(tmp_path).state is None
    commit(tmp_path, 1)
    commit(tmp_path, 2, ["a"])
    assert reopened(tmp_path).state["number"] == 2
    assert ids(tmp_path) == ["a"]


def test_a_torn_alert_is_written_again_and_a_whole_one_is_not(tmp_path):
    commit(tmp_path, 1, ["a"])
    commit(tmp_path, 2, ["b", "c"])
    path = tmp_path / "alerts.jsonl"
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):  # killed anywhere in the second commit's append
        path.write_bytes(whole[:cut])
        reopened(tmp_path)
        assert path.read_bytes() == whole


def test_logs_ahead_of_the_state_are_cut_back(tmp_path):
    commit(tmp_path, 1, mood=[{"time": 1}], rejected=[{"line": 1}])
    for name in ("mood", "rejected"):
        with open(tmp_path / f"{name}.jsonl", "ab") as file:
            file.write(b'{"of a commit": "that did not happen"}\n{"tor')
    reopened(tmp_path)
    assert read_log(tmp_path / "mood.jsonl") == [{"time": 1}]
    assert read_log(tmp_path / "rejected.jsonl") == [{"line": 1}]


def test_an_unfinished_state_does_not_count(tmp_path):
    commit(tmp_path, 1)
    (tmp_path / "state.json.unfinished").write_text('{"format_')
    assert reopened(tmp_path).state["number"] == 1
    commit(tmp_path, 2)
    assert reopened(tmp_path).state["number"] == 2


def test_a_reader_of_a_log_sees_whole_lines_only(tmp_path):
    (tmp_path / "mood.jsonl").write_text('{"time": 1}\n{"ti')
    assert read_log(tmp_path / "mood.jsonl") == [{"time": 1}]


def test_a_folder_in_use_or_of_other_settings_is_refused(tmp_path):
    journal = Journal(tmp_path, SETTINGS)
    with pytest.raises(ConfigError, match="another monitor uses this --workdir"):
        Journal(tmp_path, SETTINGS)
    journal.commit({}, [])
    journal.close()
    with pytest.raises(ConfigError, match=r"begun with other settings \(step_s: 60 -> 30\)"):
        Journal(tmp_path, {"step_s": 30})


@pytest.mark.parametrize(("content", "message"), [("{", "damaged"), ("[]", "damaged"), (None, "format 99")])
def test_a_damaged_state_is_named(tmp_path, content, message):
    commit(tmp_path, 1)
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(content or json.dumps({**state, "format_version": 99}))
    with pytest.raises(DataError, match=message):
        Journal(tmp_path, SETTINGS)
