"""Is the batch the largest one that still makes a row cheaper, and does the card tell what is known?"""

import pytest

from kerasllm.export.batching import LARGEST_REQUEST, batching_params, best_batch
from kerasllm.export.card import _latency, behaviour_section
from serving.export import behaviour_of


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 1.0, 4: 1.0}, 4),  # a row costs 1, 1/2, 1/4
        ({1: 1.0, 2: 1.5, 4: 3.2, 8: 1.0}, 2),  # 1, 0.75, 0.8: the first rise ends it, a later fall is noise
        ({1: 1.0, 2: 2.0}, 1),
    ],
)
def test_the_best_batch_is_the_largest_up_to_which_a_row_gets_cheaper(seconds, best):
    assert best_batch(seconds) == best


def test_the_parameters_limit_a_batch_but_not_a_request():
    lines = batching_params({1: 0.010, 2: 0.012, 4: 0.030}).splitlines()
    assert "#     2 rows:     6.000 ms a row" in lines
    settings = [line for line in lines if not line.startswith("#")]
    assert settings == [
        f"max_batch_size {{ value: {LARGEST_REQUEST} }}",
        "enable_large_batch_splitting { value: true }",
        "max_execution_batch_size { value: 2 }",
        "batch_timeout_micros { value: 0 }",
    ]


def test_the_curve_stands_in_the_card():
    lines = list(_latency({1: 0.010, 2: 0.012, 4: 0.030}))
    assert "| 2 | 12.00 | 6.000 |" in lines
    assert any("batches of 2" in line for line in lines)
    assert list(_latency(None)) == []


def test_behaviour_tests_stand_in_the_card_beside_what_is_asked():
    tested = {"num_cases": 9, "pass_rates": {"negation": {"en": 0.5, "all": 0.75}, "numbers": {"all": 1.0}}}
    lines = list(behaviour_section(tested, {"negation": 0.7}))
    assert "| negation | 0.750 | 0.700 |" in lines
    assert "| numbers | 1.000 | - |" in lines


def test_a_card_says_that_no_behaviour_tests_were_run(tmp_path, run):
    assert "None were run." in behaviour_of(tmp_path, run)


def test_every_export_has_a_card_with_data_scores_signatures_and_sizes(exported):
    card = (exported / "assets.extra" / "README.md").read_text()
    assert card.startswith("# Model card: sentiment\n")
    assert "- label: positive, neutral, negative" in card
    assert "- sequence length: 16" in card
    assert "| accuracy | 0.5 |" in card
    assert "| token_ids | `text` string [any] | `token_ids` int32 [any, any] |" in card
    assert "- 139 numbers in 3 variables, as float32" in card  # 14 words of 8, 8 by 3 weights and 3 biases
