"""Do several sequences in one row give what each gives alone: hidden states, scores, loss and gradients?"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import losses, models
from kerasllm.config import Run, make_run
from tests.checks import assert_close

VOCABULARY, LENGTH, PLACES, SLOTS = 40, 24, 3, 6
CLS, SEP = 2, 3
# Words of a and b of each sequence; the third row has one sequence alone.
ROWS = [[(5, 4), (3, 2)], [(2, 2), (4, 0), (1, 3)], [(9, 10)]]
MODERN = {"norm_order": "pre", "norm": "rms_norm", "activation": "swiglu", "use_bias": False, "num_key_value_heads": 2}
Batch = dict[str, tf.Tensor]


def build(architecture: str, positions: str) -> tuple[Run, keras.Model]:
    options = {
        "num_layers": 2,
        "hidden_dim": 32,
        "num_heads": 4,
        "intermediate_dim": 48,
        "max_length": LENGTH,
        "dropout": 0.0,
    }
    run = make_run(
        {
            "objective": {"task": f"{architecture}_pretraining", "word_matches": True},
            "backbone": {
                **options,
                "attention_dropout": 0.0,
                **(MODERN if positions == "rotary" else {}),
                "architecture": architecture,
                "positions": positions,
                "num_token_types": 2 if architecture == "bert" else 0,
            },
            "train": {"steps": 1, "sequence_length": LENGTH},
            "export": {"sequence_length": LENGTH},
        }
    )
    keras.utils.set_random_seed(1)
    model = models.from_run(run, VOCABULARY)
    for index, weight in enumerate(model.weights):  # starts of 0.02 would make every claim easy
        weight.assign(weight + np.random.default_rng(index).normal(0, 0.15, weight.shape))
    return run, model


def sequence(random: np.random.Generator, words_a: int, words_b: int) -> dict[str, np.ndarray]:
    """`[CLS] a [SEP] b [SEP]` with every fourth word masked; a and b draw from ten words, so that some match."""
    a, b = random.integers(10, 20, words_a), random.integers(10, 20, words_b)
    ids = np.concatenate([[CLS], a, [SEP], b, [SEP]] if words_b else [[CLS], a, [SEP]])
    masked = np.flatnonzero(ids >= 10)[::4]
    return {
        "ids": ids,
        "types": (np.arange(len(ids)) > words_a + 1).astype(int),
        "masked": masked,
        "is_pair": words_b > 0,
    }


def batch_of(rows: list[list[dict[str, np.ndarray]]]) -> Batch:
    """A batch with these sequences in its rows."""
    places = max(map(len, rows))
    names = ("token_ids", "token_type_ids", "sequence_ids", "position_ids", "labels")
    tokens = {name: np.zeros((len(rows), LENGTH), int) for name in names}
    slots = {name: np.zeros((len(rows), SLOTS)) for name in ("positions", "labels", "weights")}
    pairs = {name: np.zeros((len(rows), places)) for name in ("positions", "labels", "weights")}
    weights = np.zeros((len(rows), LENGTH))
    for row, sequences in enumerate(rows):
        begin = filled = 0
        for place, one in enumerate(sequences):
            end, count = begin + len(one["ids"]), len(one["masked"])
            for name, values in (
                ("token_ids", one["ids"]),
                ("token_type_ids", one["types"]),
                ("sequence_ids", place + 1),
            ):
                tokens[name][row, begin:end] = values
            tokens["position_ids"][row, begin:end] = np.arange(end - begin)
            tokens["labels"][row, begin : end - 1], weights[row, begin : end - 1] = one["ids"][1:], 1
            for name, values in (
                ("positions", begin + one["masked"]),
                ("labels", one["ids"][one["masked"]]),
                ("weights", 1),
            ):
                slots[name][row, filled : filled + count] = values
            for name, value in (("positions", begin), ("labels", len(one["ids"]) % 2), ("weights", one["is_pair"])):
                pairs[name][row, place] = value
            begin, filled = end, filled + count
    named = {f"masked_{name}": values for name, values in slots.items()}
    named |= {f"pair_{name}": values for name, values in pairs.items()}
    floats = {name: values for name, values in named.items() if name.endswith("weights")} | {"label_weights": weights}
    integers = {name: values for name, values in (tokens | named).items() if name not in floats}
    return {name: tf.constant(values, tf.int32) for name, values in integers.items()} | {
        name: tf.constant(values, tf.float32) for name, values in floats.items()
    }


def loss_and_gradients(run: Run, model: keras.Model, batch: Batch) -> tuple[float, list[np.ndarray]]:
    with tf.GradientTape() as tape:
        outputs = model(batch, training=True)
        loss = tf.add_n([h.totals(outputs, batch)["loss"] / h.targets(batch) for h in losses.heads_for(run)])
    return float(loss), [tf.convert_to_tensor(one).numpy() for one in tape.gradient(loss, model.trainable_weights)]


@pytest.fixture(scope="module")
def batches() -> tuple[Batch, Batch]:
    """The sequences packed, and each in a row of its own."""
    random = np.random.default_rng(8)
    rows = [[sequence(random, *lengths) for lengths in row] for row in ROWS]
    return batch_of(rows), batch_of([[one] for row in rows for one in row])


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("architecture", ["bert", "gpt"])
def test_packed_sequences_have_the_hidden_states_losses_and_gradients_that_they_have_alone(
    architecture: str, positions: str, batches: tuple[Batch, Batch]
) -> None:
    run, model = build(architecture, positions)
    packed, alone = batches
    hidden_packed = model.backbone(packed, packed=True)["hidden"].numpy()
    hidden_alone = model.backbone(alone)["hidden"].numpy()
    real_packed, real_alone = (batch["sequence_ids"].numpy() > 0 for batch in batches)
    assert_close(hidden_packed[real_packed], hidden_alone[real_alone], atol=1e-5)
    (loss_packed, gradients_packed), (loss_alone, gradients_alone) = (
        loss_and_gradients(run, model, batch) for batch in batches
    )
    assert loss_packed == pytest.approx(loss_alone, rel=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(one)) for one in gradients_alone))
    for one, other in zip(gradients_packed, gradients_alone, strict=True):
        assert np.abs(one - other).max() <= 1e-5 * norm


def test_packed_pairs_and_masked_words_score_what_they_score_alone(batches: tuple[Batch, Batch]) -> None:
    _, model = build("bert", "rotary")
    packed, alone = batches
    outputs, expected = model(packed), model(alone)
    for name, weights in (("masked_lm_logits", "masked_weights"), ("next_sentence_logits", "pair_weights")):
        kept, kept_alone = packed[weights].numpy() > 0, alone[weights].numpy() > 0
        assert kept.sum() == kept_alone.sum() > 4
        assert_close(outputs[name].numpy()[kept], expected[name].numpy()[kept_alone], atol=1e-5)


def test_words_of_another_sequence_do_change_a_row_that_is_not_told_to_be_packed(batches: tuple[Batch, Batch]) -> None:
    _, model = build("bert", "learned")
    packed, alone = batches
    real_packed, real_alone = (batch["sequence_ids"].numpy() > 0 for batch in batches)
    seen = model.backbone(packed, packed=False)["hidden"].numpy()[real_packed]
    assert np.abs(seen - model.backbone(alone)["hidden"].numpy()[real_alone]).max() > 0.01
