"""Is of a dialogue nothing learned but its replies and their ends, and does packing change nothing?"""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import data, losses, models
from kerasllm.config import Run, make_run
from kerasllm.data import Dialogue, LearnedReplies, Turn
from kerasllm.errors import ConfigError, DataError
from kerasllm.text import ByteTokenizer
from kerasllm.text.chat import reply_prompt, write_messages
from kerasllm.text.turns import ASSISTANT, CUSTOMER
from tests.checks import assert_close

BYTES = ByteTokenizer()
CHAT = {
    "roles": {
        "system": {"prefix": "S", "suffix": "."},
        "user": {"prefix": "U", "suffix": "."},
        "assistant": {"prefix": "A", "suffix": "!"},
    },
    "stop": ["!"],
}
BACKBONE = {
    "architecture": "gpt",
    "num_layers": 2,
    "hidden_dim": 32,
    "num_heads": 4,
    "max_length": 32,
    "num_token_types": 0,
    "norm_order": "pre",
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def run_of(length: int = 32, batch: int = 2, **train: Any) -> Run:
    return make_run(
        {
            "objective": {"task": "dialogue"},
            "data": {"chat": CHAT},
            "backbone": {**BACKBONE, **({"positions": "rotary"} if train.pop("rotary", False) else {})},
            "train": {"steps": 1, "sequence_length": length, "global_batch": batch, **train},
            "export": {"sequence_length": 32},
        }
    )


def dialogue(*texts: str, system: str = "") -> Dialogue:
    """Customer and company in turn."""
    turns = (Turn((CUSTOMER, ASSISTANT)[number % 2], text) for number, text in enumerate(texts))
    return Dialogue("here:1", tuple(turns), system)


def written(replies: LearnedReplies, sequence: int = 0) -> tuple[str, str, str]:
    """Tokens, labels and weights of a sequence, a character each: ^ is bos, $ is eos, - is not learned."""
    place = slice(*replies.starts[sequence : sequence + 2])

    def text(ids: np.ndarray) -> str:
        return "".join({2: "^", 3: "$"}.get(number, BYTES.words[number]) for number in ids.tolist())

    learned = "".join("+" if weight else "-" for weight in replies.weights[place])
    return text(replies.token_ids[place]), text(replies.labels[place]), learned


def test_the_tokens_of_replies_and_their_ends_are_all_that_is_learned():
    replies = data.learned_replies([dialogue("hi", "yo", "a", "b", "bye")], BYTES, run_of())
    assert written(replies) == (
        "^Uhi.Ayo!Ua.Ab!",
        "Uhi.Ayo!$a.Ab!$",  # behind a reply it ends, although the dialogue goes on
        "-----++++---+++",
    )
    assert replies.weights.dtype == np.float32


def test_a_prompt_stands_in_training_as_it_is_asked():
    chat = run_of().data.chat
    asked = reply_prompt(chat, [("system", "kind"), ("user", "hi")])
    assert asked == "Skind.Uhi.A"
    assert write_messages(chat, [("user", "hi"), ("assistant", "yo")]) == "Uhi.Ayo!"
    replies = data.learned_replies([dialogue("hi", "yo", system="kind")], BYTES, run_of())
    assert written(replies)[0] == f"^{asked}yo!"


def test_a_long_dialogue_goes_on_with_its_newest_exchange_as_context_that_is_not_learned_again():
    replies = data.learned_replies([dialogue("a", "b", "c", "d", "e", "f")], BYTES, run_of(length=13))
    assert len(replies) == 2
    assert written(replies, 0)[0::2] == ("^Ua.Ab!Uc.Ad!", "----+++---+++")
    assert written(replies, 1)[0::2] == ("^Uc.Ad!Ue.Af!", "----------+++")


def test_a_prompt_too_long_loses_its_beginning_and_a_reply_too_long_its_end():
    long_prompt = data.learned_replies([dialogue("0123456789", "yo")], BYTES, run_of(length=8))
    assert written(long_prompt) == ("^89.Ayo!", "89.Ayo!$", "----++++")
    long_reply = data.learned_replies([dialogue("a", "0123456789")], BYTES, run_of(length=8))
    assert written(long_reply) == ("^0123456", "01234567", "++++++++")


def test_dialogues_without_a_reply_are_refused():
    with pytest.raises(DataError, match="no turn of the company"):
        data.learned_replies([dialogue("hello?")], BYTES, run_of())


def test_a_template_whose_replies_would_never_end_is_refused():
    with pytest.raises(ConfigError, match="a reply ends with '!', so one of them has to stand there"):
        make_run({"data": {"chat": {**CHAT, "stop": ["\n"]}}})


@pytest.fixture(scope="module")
def many() -> LearnedReplies:
    random = np.random.default_rng(3)
    words = ["".join(random.choice(list("abcdef"), random.integers(1, 6))) for _ in range(48)]
    return data.learned_replies(
        [dialogue(*pair) for pair in zip(words[::2], words[1::2], strict=True)], BYTES, run_of()
    )


def test_packed_rows_hold_each_sequence_of_an_epoch_once_and_a_step_is_always_the_same(many: LearnedReplies):
    run = run_of(batch=1, pack=True)
    steps = data.reply_steps_per_epoch(many, run, training=True)
    assert steps <= len(many) // 2
    rows = list(data.reply_batches(many, run, training=True).take(2 * steps).as_numpy_iterator())
    for epoch in (rows[:steps], rows[steps:]):
        tokens = np.concatenate([row["token_ids"][row["sequence_ids"] > 0] for row in epoch])
        assert sorted(tokens) == sorted(many.token_ids)
    assert (rows[0]["token_ids"] != rows[steps]["token_ids"]).any()
    again = list(data.reply_batches(many, run, training=True, start_step=steps - 1).take(3).as_numpy_iterator())
    for one, other in zip(again, rows[steps - 1 : steps + 2], strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def totals(model: keras.Model, run: Run, batches: tf.data.Dataset) -> tuple[float, float, list[np.ndarray]]:
    """Targets, loss and gradients over all batches."""
    (head,) = losses.heads_for(run)
    targets, loss, gradients = 0.0, 0.0, [0.0] * len(model.trainable_variables)
    for batch in batches:
        with tf.GradientTape() as tape:
            part = head.totals(model(batch), batch)["loss"]
        found = tape.gradient(part, model.trainable_variables)
        gradients = [one + tf.convert_to_tensor(other).numpy() for one, other in zip(gradients, found, strict=True)]
        targets, loss = targets + float(head.targets(batch)), loss + float(part)
    return targets, loss, gradients


@pytest.mark.parametrize("rotary", [False, True])
def test_packed_rows_have_the_loss_and_gradients_of_one_a_row(many: LearnedReplies, rotary: bool):
    run = run_of(batch=1, pack=True, rotary=rotary)
    keras.utils.set_random_seed(1)
    model = models.from_run(run, BYTES.vocab_size)
    steps = data.reply_steps_per_epoch(many, run, training=True)
    packed = totals(model, run, data.reply_batches(many, run, training=True).take(steps))
    alone = totals(model, run, data.reply_batches(many, run_of(batch=6), training=False))
    assert packed[0] == alone[0] == many.weights.sum() > 0
    assert_close(packed[1], alone[1], rtol=1e-5, atol=0)
    for one, other in zip(packed[2], alone[2], strict=True):
        assert_close(one, other, atol=2e-4)
