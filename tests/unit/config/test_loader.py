"""Does a configuration say what it means, and does a wrong one say how to mend it?"""

import pydantic
import pytest

from kerasllm.config import Run, differences, dump_run, load_run, make_run
from kerasllm.errors import ConfigError


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def message(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


def test_an_unknown_key_is_refused_with_the_nearest_right_name(yaml_file):
    path = yaml_file("backbone: {num_head: 4}")
    assert message(load_run, path) == f"{path}: backbone has no field 'num_head'. Did you mean 'num_heads'?"


def test_an_unknown_section_is_refused_with_the_nearest_right_name(yaml_file):
    path = yaml_file("optimiser: {peak_learning_rate: 0.1}")
    assert message(load_run, path) == f"{path}: the top level has no field 'optimiser'. Did you mean 'optimizer'?"


def test_a_key_like_no_other_is_answered_with_all_there_are():
    text = message(make_run, {"tokenizer": {"zzz": 1}})
    assert text == ("the configuration: tokenizer has no field 'zzz'. It has: kind, vocab_size, lowercase.")


def test_a_number_that_yaml_reads_as_text_is_read_as_the_number_or_explained(yaml_file):
    # YAML 1.1 reads 1e-4 as text; either it means 0.0001 or the error says how to write it.
    path = yaml_file("optimizer: {peak_learning_rate: 1e-4}")
    assert load_run(path).optimizer.peak_learning_rate == 1e-4


def test_a_word_in_place_of_a_number_says_how_numbers_are_written():
    text = message(make_run, {"optimizer": {"peak_learning_rate": "fast"}})
    assert text.startswith("the configuration: optimizer.peak_learning_rate='fast': ")
    assert text.endswith("(YAML reads a number like 1e-4 as text: write 1.0e-4).")


def test_every_wrong_key_is_named_at_once():
    text = message(make_run, {"backbone": {"num_head": 1}, "train": {"stepz": 1}})
    assert "num_head" in text
    assert "stepz" in text


def test_an_override_replaces_one_setting_and_keeps_the_others(yaml_file):
    path = yaml_file("train: {steps: 10, global_batch: 4}")
    run = load_run(path, ["train.steps=20", "objective.whole_word=true"])
    assert (run.train.steps, run.train.global_batch, run.objective.whole_word) == (20, 4, True)


def test_the_value_of_an_override_is_yaml():
    run = load_run(None, ["data.labels=[bad, good]", "optimizer.clip_norm=null", "optimizer.peak_learning_rate=3.0e-4"])
    assert run.data.labels == ("bad", "good")
    assert run.optimizer.clip_norm is None
    assert run.optimizer.peak_learning_rate == 3e-4


def test_the_last_override_of_a_setting_holds():
    assert load_run(None, ["seed=2", "seed=3"]).seed == 3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps", "--set train.steps: expected section.key=value, for example --set train.steps=100."),
        ("=3", "--set =3: expected section.key=value, for example --set train.steps=100."),
        ("seed.x=1", "--set: seed={'x': 1}: Input should be a valid integer."),
        ("train.stepz=1", "--set: train has no field 'stepz'. Did you mean 'steps'?"),
    ],
)
def test_a_wrong_override_is_explained(override, expected):
    assert message(load_run, None, [override]) == expected


def test_an_override_below_a_single_value_is_explained(yaml_file):
    path = yaml_file("seed: 1")
    assert message(load_run, path, ["seed.x=1"]) == "--set seed.x=1: 'seed' is a single value, not a section."


def test_yaml_that_is_not_yaml_is_one_line_of_ours(yaml_file):
    path = yaml_file("train: {steps: [}")
    text = message(load_run, path)
    assert text.startswith(f"{path}: not valid YAML: ")
    assert "\n" not in text


def test_a_list_in_place_of_sections_is_refused(yaml_file):
    path = yaml_file("[1, 2]")
    assert message(load_run, path) == f"{path}: a configuration is a mapping of sections, this is a list."


def test_an_empty_file_means_the_defaults(yaml_file):
    assert load_run(yaml_file("# nothing yet\n")) == Run()


def test_a_missing_file_is_an_error_of_ours(tmp_path):
    path = tmp_path / "none.yaml"
    text = message(load_run, path)
    assert text.startswith(f"{path}: cannot read the configuration")


def test_a_file_that_is_not_utf8_is_an_error_of_ours(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"# caf\xe9\n")
    assert "cannot read the configuration" in message(load_run, path)


def test_what_is_dumped_is_read_back_equal(yaml_file):
    run = make_run(
        {
            "seed": 7,
            "data": {"labels": ["消极", "neutral"]},
            "optimizer": {"peak_learning_rate": 1e-5, "clip_norm": None},
            "train": {"epochs": 2.5},
        }
    )
    assert load_run(yaml_file(dump_run(run))) == run


def test_a_dump_is_readable_in_both_languages():
    assert "消极" in dump_run(make_run({"data": {"labels": ["消极"]}}))


def test_differences_name_each_setting_with_both_values():
    old, new = Run(), load_run(None, ["seed=5", "backbone.num_layers=6"])
    assert differences(old, new) == ["seed: 1 -> 5", "backbone.num_layers: 4 -> 6"]
    assert differences(old, old) == []


def test_a_run_is_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Run().seed = 2
