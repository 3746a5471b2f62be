"""Does a forbidden word never come, however it is put together?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.text import Tokenizer, train_sentencepiece, train_wordpiece
from kerasllm.text.forbidden import FORBIDDEN, forbid
from kerasllm.text.sizes import written

LINES = ["the cat sat on the mat", "a catalogue of cats", "你好世界 今天公司", "profit rose 😀"]


@pytest.fixture(scope="module")
def sentencepiece() -> Tokenizer:
    return train_sentencepiece(LINES * 30, 340)


def allowed(tokenizer: Tokenizer, text: str, words: list[str]) -> set[bytes]:
    """What the tokens add that may come after a text."""
    ids = tokenizer.tokenize([text]).to_tensor()
    lower = forbid(tokenizer, tf.constant([words]))
    logits = lower(tf.zeros([1, tokenizer.vocab_size]), ids, tf.constant([ids.shape[1]]))[0].numpy()
    assert set(np.unique(logits)) <= {0, FORBIDDEN}
    return {piece for piece, logit in zip(written(tokenizer), logits, strict=True) if logit == 0}


def test_pieces_spell_what_is_tokenized(sentencepiece: Tokenizer) -> None:
    pieces = written(sentencepiece)
    for text in [*LINES, "ABC ☃ unseen"]:
        ids = sentencepiece.tokenize([text]).to_list()[0]
        assert b"".join(pieces[number] for number in ids).decode() == text


def test_a_word_comes_neither_whole_nor_in_parts_nor_behind_a_space(sentencepiece: Tokenizer) -> None:
    all_pieces = set(written(sentencepiece))
    assert {b"t", b" cat"} <= all_pieces
    assert not any(b"cat" in piece for piece in allowed(sentencepiece, "the ", ["cat"]))
    after_ca = all_pieces - allowed(sentencepiece, "the ca", ["cat"])
    assert after_ca == {piece for piece in all_pieces if piece.startswith(b"t") or b"cat" in piece}
    assert b"t" in allowed(sentencepiece, "the c a", ["cat"])


def test_a_character_that_comes_byte_by_byte_is_caught_at_its_last_byte(sentencepiece: Tokenizer) -> None:
    first_bytes = "☃".encode()[:2]  # no piece of its own
    ids = [written(sentencepiece).index(bytes([byte])) for byte in first_bytes]
    lower = forbid(sentencepiece, tf.constant([["☃"]]))
    logits = lower(tf.zeros([1, sentencepiece.vocab_size]), tf.constant([ids]), tf.constant([2]))[0].numpy()
    assert [written(sentencepiece)[i] for i in np.flatnonzero(logits)] == [b"\x83"]


def test_a_word_longer_than_every_token_is_caught_at_the_token_that_ends_it(sentencepiece: Tokenizer) -> None:
    pieces = set(written(sentencepiece))
    word = "qzqzqzqz" * 12  # 96 bytes
    assert max(map(len, pieces)) < len(word)
    assert allowed(sentencepiece, word[:-2], [word]) == pieces - {piece for piece in pieces if piece.startswith(b"qz")}
    forbidden = pieces - allowed(sentencepiece, word[:-1], [word])
    assert forbidden == {piece for piece in pieces if piece.startswith(b"z")}
    assert forbidden


def test_words_that_have_begun_one_inside_of_the_other_are_both_watched(sentencepiece: Tokenizer) -> None:
    # "aab" is the beginning of one word, and its last letter that of the other one
    forbidden = set(written(sentencepiece)) - allowed(sentencepiece, "aab", ["baz", "aabc", ""])
    assert forbidden == {piece for piece in written(sentencepiece) if piece.startswith((b"c", b"az"))}


def test_rows_have_words_of_their_own_and_empty_ones_are_none(sentencepiece: Tokenizer) -> None:
    lower = forbid(sentencepiece, tf.constant([["cat", ""], ["", ""]]))
    ids = tf.tile(sentencepiece.tokenize(["ca"]).to_tensor(), [2, 1])
    logits = lower(tf.zeros([2, sentencepiece.vocab_size]), ids, tf.fill([2], ids.shape[1])).numpy()
    assert logits[0].any()
    assert not logits[1].any()
    nothing = forbid(sentencepiece, tf.zeros([2, 0], tf.string))
    assert not nothing(tf.zeros([2, sentencepiece.vocab_size]), ids, tf.fill([2], ids.shape[1])).numpy().any()


def test_wordpieces_are_compared_as_they_are_written(sentencepiece: Tokenizer) -> None:
    tokenizer = train_wordpiece(LINES * 5, 120)
    assert b" t" in written(tokenizer)
    assert b"t" not in allowed(tokenizer, "the ca", ["cat"])
    assert b" t" in allowed(tokenizer, "the ca", ["cat"])
