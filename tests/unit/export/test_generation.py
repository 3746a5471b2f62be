"""Does a served GPT answer whole texts, for each row as it asks, and say clearly what it cannot do?"""

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.export.generation import GenerationSignatures, write_generator
from kerasllm.export.prompts import first_stop
from kerasllm.export.settings import SETTINGS, greedy
from kerasllm.export.streaming import CARRIED, DEFAULTS
from kerasllm.models import GPTBackbone, GPTCausalLM
from kerasllm.text import Tokenizer, train_sentencepiece

LINES = ["the cat sat on the mat. 你好世界 😀", "profit rose by ten percent today. 今天公司利润上升", "ABC 0123456789"]
PROMPTS = ["the cat", "你好", "", "profit 😀"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_sentencepiece(LINES * 30, 360)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPTCausalLM:
    sizes = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "num_key_value_heads": 1, "max_length": 32}
    model = GPTCausalLM(GPTBackbone(tokenizer.vocab_size, positions="rotary", **sizes))
    random = np.random.default_rng(3)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def traced(model: GPTCausalLM, tokenizer: Tokenizer) -> dict[str, Any]:
    signatures = GenerationSignatures(model, tokenizer)
    return {"module": signatures, **signatures.signatures()}


def sampled(rows: int, **changes: Any) -> dict[str, Any]:
    given = {**greedy(20, rows), "temperature": np.ones(rows, np.float32), "seed": np.arange(rows), **changes}
    return {name: tf.constant(value) for name, value in given.items()}


def generate(traced: dict[str, Any], prompts: list[str], **changes: Any) -> dict[str, Any]:
    answers = traced["generate"](prompt=tf.constant(prompts), **sampled(len(prompts), **changes))
    return {name: values.numpy().tolist() for name, values in answers.items()}


def test_a_prompt_has_the_same_text_alone_and_beside_others(traced: dict[str, Any]) -> None:
    together = generate(traced, PROMPTS)
    assert len(set(together["text"])) == len(PROMPTS)
    assert together["num_tokens"] == [20] * 4
    assert together["finish_reason"] == [b"length"] * 4
    for row, prompt in enumerate(PROMPTS):
        assert generate(traced, [prompt], seed=np.array([row]))["text"] == together["text"][row : row + 1]


def test_rows_of_a_batch_have_limits_and_settings_of_their_own(traced: dict[str, Any]) -> None:
    limits, temperatures = np.array([1, 5, 20], np.int32), np.array([0, 1, 1], np.float32)
    answers = generate(traced, PROMPTS[:3], max_new_tokens=limits, temperature=temperatures)
    assert answers["num_tokens"] == limits.tolist()
    whole = generate(traced, PROMPTS[:3])["text"]
    assert whole[2] == answers["text"][2]


def test_a_stop_string_ends_a_row_and_is_not_part_of_the_text(traced: dict[str, Any]) -> None:
    whole = generate(traced, PROMPTS)["text"]
    stop = whole[0].decode()[4:6].encode()  # of the first row alone; the others have none
    answers = generate(traced, PROMPTS, stop=np.array([[stop], [b""], [b""], [b""]], object))
    assert answers["text"] == [whole[0][: whole[0].index(stop)], *whole[1:]]
    assert answers["finish_reason"] == [b"stop", b"length", b"length", b"length"]
    assert answers["num_tokens"][0] < 20


def test_the_first_place_of_any_stop_string_counts() -> None:
    texts = tf.constant(["hello world", "ab", "xx", "", "你好世界"])
    stop = tf.constant([["wor", "o"], ["abc", ""], ["x", "xx"], ["a", "b"], ["世", "z"]])
    assert first_stop(texts, stop).numpy().tolist() == [4, -1, 0, -1, 6]
    assert first_stop(texts, tf.zeros([5, 0], tf.string)).numpy().tolist() == [-1] * 5


def test_long_stop_strings_take_no_more_memory_than_the_texts() -> None:
    # 64 strings x 1,000 places: compared as a whole, with a megabyte each, that would be 67 gigabytes.
    texts = tf.constant([b"ab" * 500])
    stop = tf.constant([[b"a" * 2**20, b"b" * 2**20, *[b"ba"] * 62]])
    assert first_stop(texts, stop).numpy().tolist() == [1]
    assert first_stop(texts, stop[:, :2]).numpy().tolist() == [-1]


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]])
def test_chunks_give_the_text_of_one_call_and_each_one_only_adds_to_it(
    traced: dict[str, Any], prompts: list[str]
) -> None:
    whole = generate(traced, prompts)["text"]
    settings = sampled(len(prompts))
    state = traced["prefill"](prompt=tf.constant(prompts), **settings)
    steps, before = tf.constant([3] * len(prompts)), [b""] * len(prompts)
    while not state["is_done"].numpy().all():
        carried = {name: state[name] for name in CARRIED}
        cache = carried["cache"].numpy().copy()
        state = traced["decode_chunk"](chunk_tokens=steps, **carried, **settings)
        np.testing.assert_array_equal(carried["cache"], cache, err_msg="the caller's state was written")
        texts = state["text"].numpy().tolist()
        for one, other in zip(texts, before, strict=True):
            assert one.startswith(other)
            one.decode("utf-8")
        before = texts
    assert before == whole


def test_a_state_whose_parts_do_not_fit_is_refused(traced: dict[str, Any]) -> None:
    settings = sampled(2)
    state = traced["prefill"](prompt=tf.constant(PROMPTS[:2]), **settings)
    carried = {name: state[name] for name in CARRIED}
    columns = carried["token_ids"].shape[1]
    for wrong in (
        {"cache": carried["cache"][:, :, :, :, :-1]},
        {"lengths": tf.constant([columns + 1, 3])},
        {"lengths": tf.constant([3, 0])},
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="as many columns"):
            traced["decode_chunk"](chunk_tokens=tf.constant([1, 1]), **{**carried, **wrong}, **settings)


def test_every_setting_has_a_default_that_the_signatures_take(traced: dict[str, Any]) -> None:
    assert DEFAULTS.keys() == SETTINGS.keys()
    defaults = {name: tf.constant([value], SETTINGS[name].dtype) for name, value in DEFAULTS.items()}
    assert traced["generate"](prompt=tf.constant(["the cat"]), **defaults)["text"].shape == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": ["the cat " * 40]}, "prompts may have 30 tokens"),
        ({"max_new_tokens": np.array([0], np.int32)}, "max_new_tokens has to be at least 1"),
        ({"temperature": np.array([-1], np.float32)}, "temperature has to be 0"),
        ({"temperature": np.array([np.nan], np.float32)}, "temperature has to be 0"),
        ({"top_p": np.array([0], np.float32)}, "top_p has to be above 0"),
        ({"top_k": np.array([-1], np.int32)}, "top_k has to be 0"),
        ({"repetition_penalty": np.array([0], np.float32)}, "repetition_penalty has to be above 0"),
        ({"stop": np.array([[b"a"] * 65], object)}, "a row may have at most 64 stop strings"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(
    traced: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        generate(traced, changes.pop("prompt", ["a"]), **changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([b"a"] * 65, "a row may have at most 64 forbidden strings"),
        ([b"a" * 2**20], "a forbidden string may have at most 100 bytes"),
    ],
)
def test_what_would_take_too_much_memory_to_forbid_is_refused(
    traced: dict[str, Any], words: list[bytes], message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        traced["generate_without"](prompt=tf.constant(["a"]), forbidden=tf.constant([words]), **sampled(1))


def test_forbidden_words_never_come_though_they_did_before(traced: dict[str, Any]) -> None:
    rows = 24
    settings, prompts = sampled(rows), tf.constant(["the cat"] * rows)
    free = traced["generate"](prompt=prompts, **settings)["text"].numpy().tolist()
    together = b"".join(free)
    letters = sorted({together[i : i + 1] for i in range(len(together)) if together[i : i + 1].isalnum()})[:3]
    words = [*letters, "上".encode(), b" "]
    assert sum(together.count(word) for word in words) > rows
    texts = traced["generate_without"](prompt=prompts, forbidden=tf.constant([words] * rows), **settings)["text"]
    for text in texts.numpy().tolist():
        assert not [word for word in words if word in text]
        text.decode("utf-8")
    nothing = tf.zeros([rows, 0], tf.string)
    assert free == traced["generate_without"](prompt=prompts, forbidden=nothing, **settings)["text"].numpy().tolist()


def test_a_choice_is_one_of_those_given_to_its_row(traced: dict[str, Any]) -> None:
    choices = [[" sat on the mat", " rose", "😀"], ["好世界", "x", ""], ["a", "", ""], ["今天", "公司", "b"]]
    given = {"choices": tf.constant(choices), "length_penalty": tf.constant([1.0, 0.0, 0.0, 0.0])}
    answers = traced["choose"](prompt=tf.constant(PROMPTS), **given)
    index, chosen = answers["index"].numpy(), [one.decode() for one in answers["choice"].numpy()]
    assert chosen == [row[number] for row, number in zip(choices, index, strict=True)]
    np.testing.assert_allclose(answers["probabilities"].numpy().sum(axis=1), 1, rtol=1e-5)
    assert (chosen[2], answers["probabilities"].numpy()[2].tolist()) == ("a", [1.0, 0.0, 0.0])
    for row, prompt in enumerate(PROMPTS):
        alone = {name: value[row : row + 1] for name, value in given.items()}
        found = traced["choose"](prompt=tf.constant([prompt]), **alone)["log_probabilities"]
        np.testing.assert_allclose(found, answers["log_probabilities"][row : row + 1], atol=1e-4)


def test_beams_find_texts_that_are_more_probable_than_that_of_one_beam(traced: dict[str, Any]) -> None:
    def search(num_beams: int) -> dict[str, Any]:
        beams = {"max_new_tokens": tf.fill([4], 8), "num_beams": tf.fill([4], num_beams)}
        return traced["beam_search"](prompt=tf.constant(PROMPTS), length_penalty=tf.zeros([4]), **beams)

    one, many = search(1), search(8)
    assert many["score"].numpy().sum() > one["score"].numpy().sum() + 0.01
    assert many["num_tokens"].numpy().max() <= 8
    for text in many["text"].numpy():
        text.decode("utf-8")


@pytest.mark.parametrize(
    ("signature", "changes", "message"),
    [
        ("beam_search", {"num_beams": tf.constant([0])}, "num_beams has to be from 1 to 32"),
        ("beam_search", {"max_new_tokens": tf.constant([0])}, "max_new_tokens has to be at least 1"),
        ("beam_search", {"length_penalty": tf.constant([np.nan])}, "length_penalty has to be a number"),
        ("beam_search", {"prompt": tf.constant(["the cat " * 40])}, "prompts may have 30 tokens"),
        ("choose", {"choices": tf.constant([["", ""]])}, "a row has no choice"),
        ("choose", {"choices": tf.zeros([1, 0], tf.string)}, "a row has no choice"),
        ("choose", {"choices": tf.constant([["the cat " * 40]])}, "have more than 32 tokens together"),
    ],
)
def test_searching_and_choosing_refuse_with_a_sentence_too(
    traced: dict[str, Any], signature: str, changes: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"prompt": tf.constant(["a"]), "length_penalty": tf.zeros([1])}
    if signature == "choose":
        given["choices"] = tf.constant([["b", "c"]])
    else:
        given |= {"max_new_tokens": tf.constant([4]), "num_beams": tf.constant([2])}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        traced[signature](**{**given, **changes})


@pytest.mark.slow
def test_the_export_answers_in_a_version_1_session_as_in_the_process(
    model: GPTCausalLM, tokenizer: Tokenizer, tmp_path: Any
) -> None:
    folder = write_generator(model, tokenizer, tmp_path, "gpt", {"loss": 1.0})  # it compares the answers itself
    assert (folder / "assets.extra" / "export.json").exists()
    assert (folder / "assets.extra" / "streaming.json").exists()


@pytest.mark.slow
def test_bfloat16_halves_the_matrices_and_the_card_tells_what_it_changes(
    model: GPTCausalLM, tokenizer: Tokenizer, tmp_path: Any
) -> None:
    folder = write_generator(model, tokenizer, tmp_path, "gpt", bfloat16_for=LINES)
    stored = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    kinds, shapes = stored.get_variable_to_dtype_map(), stored.get_variable_to_shape_map()
    assert {kinds[name] for name, shape in shapes.items() if len(shape) == 2} == {tf.bfloat16}
    notes = json.loads((folder / "assets.extra" / "export.json").read_text(encoding="utf-8"))["bfloat16"]
    assert notes["num_tokens"] > 20
    assert 0 < abs(notes["bfloat16_loss"] - notes["float32_loss"]) < 0.05
    assert "in bfloat16" in (folder / "assets.extra" / "README.md").read_text(encoding="utf-8")
