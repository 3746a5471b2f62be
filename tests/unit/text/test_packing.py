"""Do rows come out as [CLS] text [SEP] padding, of the width asked for?"""

import tensorflow as tf

from kerasllm import text


def tokenizer() -> text.WordPieceTokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    return text.WordPieceTokenizer("\n".join(words).encode())


def test_a_row_is_cls_text_sep_padding():
    packed = text.pack_texts(tokenizer(), tf.constant(["a b", ""]), 6)
    assert packed["token_ids"].numpy().tolist() == [[2, 5, 6, 3, 0, 0], [2, 3, 0, 0, 0, 0]]
    assert packed["sequence_ids"].numpy().tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert packed["token_type_ids"].numpy().tolist() == [[0] * 6] * 2
    assert {array.dtype for array in packed.values()} == {tf.int32}


def test_a_long_text_loses_its_end_and_keeps_sep():
    assert text.pack_texts(tokenizer(), tf.constant(["a b c"]), 4)["token_ids"].numpy().tolist() == [[2, 5, 6, 3]]


def test_without_a_length_rows_are_as_long_as_the_longest_text():
    texts = tf.constant(["a", "a b c"])
    assert text.pack_texts(tokenizer(), texts, None, max_length=9)["token_ids"].shape == (2, 5)
    assert text.pack_texts(tokenizer(), texts, None, max_length=4)["token_ids"].shape == (2, 4)


def test_widths_are_rounded_up_but_not_beyond_the_longest_allowed():
    texts = tf.constant(["a b c"])
    assert text.pack_texts(tokenizer(), texts, None, max_length=64, multiple_of=8)["token_ids"].shape == (1, 8)
    assert text.pack_texts(tokenizer(), texts, None, max_length=6, multiple_of=8)["token_ids"].shape == (1, 6)


def test_a_batch_of_no_texts_is_a_batch_of_no_rows():
    assert text.pack_texts(tokenizer(), tf.constant([], tf.string), 6)["token_ids"].shape == (0, 6)


def test_the_batch_size_may_be_unknown_while_the_width_is_static():
    function = tf.function(lambda texts: text.pack_texts(tokenizer(), texts, 6)["token_ids"])
    concrete = function.get_concrete_function(tf.TensorSpec([None], tf.string))
    assert concrete.structured_outputs.shape.as_list() == [None, 6]
