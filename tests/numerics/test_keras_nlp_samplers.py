"""Do keras-nlp's samplers choose the same words from the same logits, and draw them equally often?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models import GPTBackbone, GPTCausalLM
from kerasllm.models.generation import begin, proceed
from kerasllm.models.sampling import Sampling, choose

VOCAB, NEW, MAX_LENGTH = 40, 9, 16
PROMPTS = [[1, 2, 3, 4, 5], [7, 6], [30]]
DRAWS = 20_000


@pytest.fixture(scope="module")
def samplers():
    return pytest.importorskip("keras_hub").samplers


@pytest.fixture(scope="module")
def model() -> GPTCausalLM:
    model = GPTCausalLM(GPTBackbone(VOCAB, num_layers=2, hidden_dim=32, num_heads=4, max_length=MAX_LENGTH))
    random = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.5, weight.shape))
    return model


def sampling(rows: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Sampling:
    return Sampling(
        temperature=tf.fill([rows], temperature),
        top_k=tf.fill([rows], top_k),
        top_p=tf.fill([rows], top_p),
        repetition_penalty=tf.ones([rows]),
        seed=tf.zeros([rows], tf.int64),
    )


def continued(model: GPTCausalLM, settings: Sampling) -> list[list[int]]:
    """Prompts of different lengths and what follows, by the cache."""
    ids = tf.ragged.constant(PROMPTS, dtype=tf.int32).to_tensor()
    lengths = tf.constant([len(prompt) for prompt in PROMPTS])

    @tf.function
    def run() -> tf.Tensor:
        state = begin(model, ids, lengths, MAX_LENGTH, settings)
        return proceed(model, state, lengths + NEW, settings).token_ids

    return [row[: len(prompt) + NEW] for row, prompt in zip(run().numpy().tolist(), PROMPTS, strict=True)]


def continued_by(sampler, model: GPTCausalLM) -> list[list[int]]:
    """The same by keras-nlp, with all logits computed anew at each word."""

    def following(ids: tf.Tensor, cache: tuple, index: tf.Tensor) -> tuple:
        return model({"token_ids": ids})["logits"][:, index - 1], None, cache

    rows = []
    for prompt in PROMPTS:
        room = tf.constant([prompt + [0] * NEW])
        mask = tf.sequence_mask([len(prompt)], len(prompt) + NEW)
        rows += sampler(next=following, prompt=room, index=len(prompt), mask=mask).numpy().tolist()
    return rows


def test_greedy_decoding_writes_what_the_greedy_sampler_writes(samplers, model: GPTCausalLM) -> None:
    ours = continued(model, sampling(len(PROMPTS), temperature=0.0))
    assert ours == continued_by(samplers.GreedySampler(), model)
    assert len({tuple(row[-3:]) for row in ours}) == len(PROMPTS), "texts that are all alike would prove nothing"


def test_drawing_among_one_word_writes_what_the_top_k_sampler_of_one_writes(samplers, model: GPTCausalLM) -> None:
    ours = continued(model, sampling(len(PROMPTS), temperature=0.7, top_k=1))
    assert ours == continued_by(samplers.TopKSampler(k=1, temperature=0.7), model)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        ({}, "RandomSampler", {}),
        ({"temperature": 0.6}, "RandomSampler", {"temperature": 0.6}),
        ({"temperature": 1.8}, "RandomSampler", {"temperature": 1.8}),
        ({"top_k": 5}, "TopKSampler", {"k": 5}),
        ({"top_k": 8, "temperature": 1.5}, "TopKSampler", {"k": 8, "temperature": 1.5}),
        ({"top_p": 0.7}, "TopPSampler", {"p": 0.7}),
        ({"top_p": 0.9, "temperature": 0.8}, "TopPSampler", {"p": 0.9, "temperature": 0.8}),
    ],
    ids=str,
)
def test_words_are_drawn_from_the_same_and_equally_often(samplers, ours: dict, theirs: str, settings: dict) -> None:
    logits = np.random.default_rng(2).normal(0, 1.5, [1, VOCAB]).astype(np.float32)
    # Ours draws by inversion: on an even grid in place of random numbers each word has its share exactly.
    grid = (np.arange(DRAWS, dtype=np.float32) + 0.5) / DRAWS
    words = choose(np.tile(logits, [DRAWS, 1]), sampling(DRAWS, **ours), tf.constant(grid))
    expected = np.bincount(words, minlength=VOCAB).astype(float)
    sampler = getattr(samplers, theirs)(seed=7, **settings)
    probabilities = sampler.compute_probabilities(np.tile(logits, [DRAWS, 1]))
    drawn = np.bincount(np.asarray(sampler.get_next_token(probabilities)), minlength=VOCAB)
    assert drawn[expected == 0].sum() == 0
    often = expected >= 10
    squares = (drawn[often] - expected[often]) ** 2 / expected[often]
    # Chi square: its mean is the number of words less one, its deviation the root of twice that.
    freedom = often.sum() - 1
    assert squares.sum() < freedom + 4 * np.sqrt(2 * freedom) + 4
    assert (drawn[often] > 0).all()
