"""Is a text that is made with the cache the one that the whole model makes?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models import GPTBackbone, GPTCausalLM, sample_continuations
from kerasllm.models.generation import Decoding, begin, proceed
from kerasllm.models.sampling import Sampling, choose, uniforms

VOCAB, LONGEST, END = 40, 24, 3
PROMPTS = [[2, 7, 9], [2], [2, 30, 31, 32, 33, 34], [2, 11]]
SEEDS = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.float32))  # and the temperature
KINDS = {
    "gpt2": {},
    "llama": {
        "positions": "rotary", "norm": "rms_norm", "activation": "swiglu", "num_key_value_heads": 2, "use_bias": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> GPTCausalLM:
    backbone = GPTBackbone(VOCAB, num_layers=2, hidden_dim=32, num_heads=4, max_length=LONGEST, **KINDS[request.param])
    model = GPTCausalLM(backbone)
    random = np.random.default_rng(8)
    for weight in model.weights:  # small new weights repeat one word, and would prove nothing
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.35, weight.shape))
    return model


def settings(seeds: tf.Tensor, temperature: tf.Tensor) -> Sampling:
    rows = tf.shape(seeds)[:1]
    return Sampling(
        temperature=tf.fill(rows, temperature),
        top_k=tf.zeros(rows, tf.int32),
        top_p=tf.ones(rows),
        repetition_penalty=tf.fill(rows, 1.3),
        seed=seeds,
    )


class Generator:
    """The model with a cache and without one, each as one graph for all prompts."""

    def __init__(self, model: GPTCausalLM) -> None:
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32), *SEEDS])
        def generate(ids: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor, temperature: tf.Tensor) -> tuple:
            sampling = settings(seeds, temperature)
            state = begin(model, ids, lengths, LONGEST, sampling)
            state = proceed(model, state, tf.minimum(lengths + 15, LONGEST), sampling, (END,))
            return state.token_ids, state.lengths

        @tf.function(input_signature=[tf.TensorSpec([1, LONGEST], tf.int32), tf.TensorSpec([], tf.int32), *SEEDS])
        def next_word(ids: tf.Tensor, length: tf.Tensor, seeds: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
            logits = model({"token_ids": ids})["logits"][:, length - 1]
            seen = tf.reduce_any(tf.one_hot(ids[:, :length], VOCAB) > 0, axis=1)
            return choose(logits, settings(seeds, temperature), uniforms(seeds, length[None]), seen)

        self._generate, self._next_word = generate, next_word

    def with_cache(self, prompts: list[list[int]], seeds: list[int], temperature: float) -> list[list[int]]:
        ids = tf.ragged.constant(prompts, dtype=tf.int32).to_tensor()
        lengths = tf.constant([len(prompt) for prompt in prompts])
        rows, ends = self._generate(ids, lengths, tf.constant(seeds, tf.int64), tf.constant(temperature))
        return [row[:end].tolist() for row, end in zip(rows.numpy(), ends.numpy(), strict=True)]

    def recomputed(self, prompt: list[int], seed: int, temperature: float) -> list[int]:
        """Each word from a whole forward pass over all before it."""
        ids, total = list(prompt), min(len(prompt) + 15, LONGEST)
        while len(ids) < total and (len(ids) == len(prompt) or ids[-1] != END):
            row = tf.constant([ids + [0] * (LONGEST - len(ids))])
            seeds = tf.constant([seed], tf.int64)
            ids.append(int(self._next_word(row, tf.constant(len(ids)), seeds, tf.constant(temperature))[0]))
        return ids


@pytest.fixture(scope="module")
def generator(model: GPTCausalLM) -> Generator:
    return Generator(model)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_of_a_batch_are_what_each_prompt_gives_recomputed_and_alone(
    generator: Generator, temperature: float
) -> None:
    seeds = [4, 5, 6, 7]
    together = generator.with_cache(PROMPTS, seeds, temperature)
    for prompt, seed, row in zip(PROMPTS, seeds, together, strict=True):
        assert row == generator.recomputed(prompt, seed, temperature)
        assert row == generator.with_cache([prompt], [seed], temperature)[0]
    assert len({tuple(row[len(p) :]) for p, row in zip(PROMPTS, together, strict=True)}) == 4, "they all say the same"


def test_a_row_ends_with_its_end_token_and_the_others_go_on(generator: Generator) -> None:
    rows = generator.with_cache(PROMPTS * 8, list(range(32)), 3.0)
    ended = [row for row in rows if END in row[6:]]
    assert ended, "no row ends early: the test shows nothing"
    for row in ended:
        assert (row[-1], row.count(END)) == (END, 1)
    assert max(len(row) for row in rows) == 21


def test_chunks_of_three_tokens_give_the_text_of_one_call(model: GPTCausalLM) -> None:
    sampling = settings(tf.constant([1, 2], tf.int64), tf.constant(1.0))
    ids, lengths, limits = tf.constant([[2, 7, 9], [2, 8, 0]]), tf.constant([3, 2]), tf.constant([20, 12])

    @tf.function
    def start() -> Decoding:
        return begin(model, ids, lengths, LONGEST, sampling)

    @tf.function
    def go_on(state: Decoding, steps: tf.Tensor) -> Decoding:
        return proceed(model, state, limits, sampling, num_steps=steps)

    state = whole = start()
    for _ in range(9):
        state = go_on(state, tf.constant(3))
    whole = go_on(whole, tf.constant(100))
    assert state.lengths.numpy().tolist() == whole.lengths.numpy().tolist() == [20, 12]
    np.testing.assert_array_equal(state.token_ids, whole.token_ids)


def test_samples_differ_by_their_seed(model: GPTCausalLM) -> None:
    prompt = tf.constant([[2, 5], [2, 5]])
    one, again, other = (sample_continuations(model, prompt, 8, seed=seed).numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (one[0] != one[1]).any()


def test_prompts_of_many_lengths_share_one_size_of_cache(model: GPTCausalLM) -> None:
    sampling = settings(tf.constant([1], tf.int64), tf.constant(1.0))
    sizes = set[tuple[int, ...]]()
    for length in (1, 8, 17, LONGEST - 1):
        state = begin(model, tf.ones([1, length], tf.int32), tf.constant([length]), length + 1, sampling)
        sizes |= {tuple(state.token_ids.shape), tuple(state.caches[0][0].shape[::2])}
        assert not state.token_ids[0, length + 1 :].numpy().any()
    assert sizes == {(1, LONGEST)}
