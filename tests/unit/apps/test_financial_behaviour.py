"""Do the behaviour tests fill their templates, judge as they say, and keep bad models from being exported?"""

import json

import numpy as np
import pytest

from apps.financial_sentiment import behaviour_cases
from apps.financial_sentiment.behaviour_cases import Case
from kerasllm.config import make_run
from kerasllm.errors import DataError, ExportError
from serving.export import check_behaviour, model_card

LABELS = ("negative", "neutral", "positive")


def judged(expect: str, first: list[float], second: list[float], label: str = "positive", by: float = 0.1) -> bool:
    case = Case("t", "en", "a", "b", expect, label, by)
    return behaviour_cases.holds(case, np.array(first), np.array(second), LABELS)


def test_both_languages_have_every_test_and_no_slot_is_left_open():
    cases = behaviour_cases.read_cases(("en", "zh"))
    tests = {"negation", "up_or_down", "other_company", "more_of_it", "less_of_it"}
    assert {(case.test, case.language) for case in cases} == {(test, lang) for test in tests for lang in ("en", "zh")}
    assert not [case for case in cases if set("{}") & set(case.first + case.second)]
    assert all(case.first != case.second for case in cases)
    assert len(set(cases)) == len(cases)


def test_only_the_asked_languages_are_read():
    assert {case.language for case in behaviour_cases.read_cases(("zh",))} == {"zh"}


@pytest.mark.parametrize(
    ("expect", "first", "second", "passes"),
    [
        ("opposite", [0.1, 0.2, 0.7], [0.5, 0.4, 0.1], True),
        ("opposite", [0.1, 0.2, 0.7], [0.1, 0.5, 0.4], False),
        ("same", [0.1, 0.2, 0.7], [0.3, 0.3, 0.4], True),
        ("same", [0.1, 0.2, 0.7], [0.5, 0.1, 0.4], False),
        ("falls", [0.1, 0.2, 0.7], [0.2, 0.3, 0.5], True),
        ("falls", [0.1, 0.2, 0.7], [0.1, 0.25, 0.65], False),
        ("not_weaker", [0.1, 0.2, 0.7], [0.1, 0.25, 0.65], True),  # leans 0.6, then 0.55: 0.1 is allowed
        ("not_weaker", [0.1, 0.2, 0.7], [0.2, 0.3, 0.5], False),
    ],
)
def test_expectations_hold_or_not(expect, first, second, passes):
    assert judged(expect, first, second) is passes


def test_a_stronger_fall_leans_to_the_negative_side():
    assert judged("not_weaker", [0.7, 0.2, 0.1], [0.9, 0.1, 0.0], "negative")
    assert not judged("not_weaker", [0.7, 0.2, 0.1], [0.4, 0.3, 0.3], "negative")


def test_pass_rates_are_per_language_and_over_all():
    cases = [Case("t", language, "a", "b", "same") for language in ("en", "en", "en", "zh")]
    assert behaviour_cases.pass_rates(cases, [True, True, False, False]) == {"t": {"en": 2 / 3, "zh": 0.0, "all": 0.5}}


def test_a_file_of_another_form_is_refused(tmp_path):
    (tmp_path / "b.yaml").write_text("format_version: 2\n")
    with pytest.raises(DataError, match="no behaviour tests"):
        behaviour_cases.read_cases(("en",), tmp_path / "b.yaml")


def workdir_with(tmp_path, **rates: float):
    shares = {test: {"en": rate, "all": rate} for test, rate in rates.items()}
    (tmp_path / "behaviour.json").write_text(json.dumps({"step": 7, "pass_rates": shares}))
    return tmp_path


ASKING = make_run({"export": {"min_behaviour": {"negation": 0.8}}})


def test_a_model_that_fails_a_test_is_not_exported_unless_the_flag_says_so(tmp_path):
    workdir = workdir_with(tmp_path, negation=0.5, up_or_down=0.4)
    with pytest.raises(ExportError, match=r"negation: 0\.500 of the cases, 0\.800 asked for"):
        check_behaviour(workdir, ASKING, 7, None)
    check_behaviour(workdir, ASKING, 7, 0.4)
    check_behaviour(workdir, ASKING, 7, 0.0)
    with pytest.raises(ExportError, match=r"up_or_down: 0\.400 of the cases, 0\.450 asked for"):
        check_behaviour(workdir, ASKING, 7, 0.45)


def test_tests_that_are_not_asked_for_may_fail(tmp_path):
    check_behaviour(workdir_with(tmp_path, negation=0.9, up_or_down=0.0), ASKING, 7, None)


def test_untested_and_newer_checkpoints_are_refused(tmp_path):
    with pytest.raises(ExportError, match="no behaviour.json"):
        check_behaviour(tmp_path, ASKING, 7, None)
    with pytest.raises(ExportError, match="of step 7, the checkpoint of step 8"):
        check_behaviour(workdir_with(tmp_path, negation=1.0), ASKING, 8, None)
    check_behaviour(tmp_path / "elsewhere", make_run({}), 8, None)  # nothing is asked for


def test_the_card_tells_that_the_gate_was_moved(tmp_path):
    assert model_card(tmp_path, 0.0) == {}
    (tmp_path / "model_card.md").write_text("# Card\n")
    assert model_card(tmp_path, None) == {"model_card.md": "# Card\n"}
    assert "--min_behaviour 0.5" in model_card(tmp_path, 0.5)["model_card.md"]
