"""Are perplexities those of bytes and characters, and are repetition and variety counted as they are said to be?"""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import metrics, writing
from kerasllm.config import make_run
from kerasllm.models import from_run
from kerasllm.text import ByteTokenizer, text_sizes, train_sentencepiece, train_wordpiece
from kerasllm.trained import Trained

TEXT = "我 am 😀."  # 1 + 1 + 2 + 1 + 1 + 1 characters, of 3 + 1 + 2 + 1 + 4 + 1 bytes


@pytest.fixture(scope="module")
def untaught() -> Trained:
    """A GPT of bytes to which all of the 261 tokens are alike."""
    run = make_run(
        {
            "objective": {"task": "dialogue"},
            "backbone": {
                "architecture": "gpt",
                "num_layers": 1,
                "hidden_dim": 16,
                "num_heads": 2,
                "max_length": 32,
                "num_token_types": 0,
                "norm_order": "pre",
            },
            "train": {"steps": 1, "sequence_length": 16},
            "export": {"sequence_length": 16},
        }
    )
    model = from_run(run, ByteTokenizer().vocab_size)
    model.backbone.embedding.word_table.assign(tf.zeros([261, 16]))
    return Trained(run, ByteTokenizer(), model)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary_spread_over_bytes(untaught: Trained):
    ids = [2, *untaught.tokenizer.tokenize(tf.constant([TEXT])).to_list()[0], 3]
    batch = {"token_ids": tf.constant([ids[:-1]]), "labels": tf.constant([ids[1:]])}
    batch["label_weights"] = tf.ones([1, 13])
    found = writing.expectations(untaught, [batch, {**batch, "label_weights": tf.zeros([1, 13])}])
    assert (found["tokens"], found["bytes"], found["characters"]) == (13, 12, 7)  # 13: the end of the document too
    assert found["loss"] == pytest.approx(math.log(261), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(13 / 12 * math.log2(261), rel=1e-5)
    assert found["perplexity_per_token"] == pytest.approx(261, rel=1e-4)
    assert found["perplexity_per_character"] == pytest.approx(261 ** (13 / 7), rel=1e-4)


@pytest.mark.parametrize("make", [lambda: train_sentencepiece([TEXT, "plain words"] * 30, 300), ByteTokenizer])
def test_the_sizes_of_the_tokens_of_a_text_add_up_to_it(make):
    tokenizer = make()
    ids = tokenizer.tokenize(tf.constant([TEXT])).to_list()[0]
    num_bytes, num_characters = (sizes[ids].sum() for sizes in text_sizes(tokenizer))
    assert (num_bytes, num_characters) == (12, 7)
    assert all(sizes[list(tokenizer.special.ids)].sum() == 0 for sizes in text_sizes(tokenizer))


def test_words_of_wordpiece_have_a_space_before_them_and_pieces_have_none():
    tokenizer = train_wordpiece(["a ab 我"] * 9, 300)
    sizes = dict(zip(tokenizer.words, zip(*text_sizes(tokenizer), strict=True), strict=True))
    assert (sizes["a"], sizes["##b"], sizes["我"], sizes["[CLS]"]) == ((2, 2), (1, 1), (3, 1), (0, 0))


def test_different_n_grams_are_counted_over_all_texts():
    texts = [["a", "b", "a"], ["b", "a"]]  # a b, b a, b a
    assert metrics.distinct_share(texts, 1) == 2 / 5
    assert metrics.distinct_share(texts, 2) == 2 / 3
    assert math.isnan(metrics.distinct_share(texts, 4))


def test_repeated_n_grams_are_counted_within_each_text():
    # a b a b a: a b, b a, a b, b a, 2 of 4 are new; c d e: all are; the last text has none.
    assert metrics.repeated_share([list("ababa"), list("cde"), ["x"]], 2) == (0.5 + 0) / 2
    assert metrics.repeated_share([list("aaaaa")]) == 1 / 2


def test_continuations_are_as_long_as_the_true_ones_they_stand_beside(untaught: Trained):
    rows = np.tile(np.arange(5, 21, dtype=np.int32), [2, 1])
    found = writing.continued(untaught, rows, 4, temperature=0.0)
    assert found["true"] == {"distinct_1": 0.5, "distinct_2": 0.5, "distinct_3": 0.5, "repeated_4": 0.0}
    assert found["generated"]["distinct_1"] == 1 / 24  # the first of equal words, again and again
    assert found["generated"]["repeated_4"] == 8 / 9


def test_a_prompt_without_room_loses_its_beginning_and_a_reply_ends_before_a_stop_string(untaught: Trained):
    prompts = ["x" * 100, "short"]
    replies = writing.replies_to(untaught, prompts, max_new_tokens=4, batch=1)
    assert len(replies) == 2
    assert all(isinstance(reply, str) and "\n" not in reply for reply in replies)
    assert writing._last_tokens(untaught.tokenizer, ["abcdef", "ab"], 3) == ["def", "ab"]
