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


PAIRS = (tf.constant(["a b", "a a a a a a", "b"]), tf.constant(["c", "c c c c", "c c c c c c c"]))


def test_a_pair_is_cls_first_sep_second_sep_and_the_second_is_of_type_1():
    packed = text.pack_pairs(tokenizer(), tf.constant(["a b", ""]), tf.constant(["c", ""]), 8)
    assert packed["token_ids"].numpy().tolist() == [[2, 5, 6, 3, 7, 3, 0, 0], [2, 3, 3, 0, 0, 0, 0, 0]]
    assert packed["token_type_ids"].numpy().tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]]
    assert packed["sequence_ids"].numpy().tolist() == [[1] * 6 + [0] * 2, [1] * 3 + [0] * 5]
    assert {array.dtype for array in packed.values()} == {tf.int32}


def test_the_longer_text_of_a_pair_is_cut_and_equal_ones_share_the_room():
    # Room for 8 - 3 = 5 tokens: 2 + 1 fit; 6 + 4 -> 3 + 2 (of equal ones the second loses first); 1 + 7 -> 1 + 4.
    rows = text.pack_pairs(tokenizer(), *PAIRS, 8)["token_ids"].numpy().tolist()
    assert rows[0] == [2, 5, 6, 3, 7, 3, 0, 0]
    assert rows[1] == [2, 5, 5, 5, 3, 7, 7, 3]
    assert rows[2] == [2, 6, 3, 7, 7, 7, 7, 3]


def test_a_pair_is_cut_as_if_tokens_were_taken_one_by_one_from_the_longer_text():
    sizes = [(first, second) for first in range(12) for second in range(12)]
    first, second = tf.constant(["a " * size for size, _ in sizes]), tf.constant(["b " * size for _, size in sizes])
    for length in (3, 4, 9, 12):
        packed = text.pack_pairs(tokenizer(), first, second, length)["token_ids"].numpy()
        for row, (num_first, num_second) in zip(packed, sizes, strict=True):
            while num_first + num_second > length - 3:
                if num_first > num_second:
                    num_first -= 1
                else:
                    num_second -= 1
            assert ((row == 5).sum(), (row == 6).sum()) == (num_first, num_second)


def test_pairs_without_a_length_are_as_long_as_the_longest_pair_rounded_up():
    packed = text.pack_pairs(tokenizer(), *PAIRS, None, max_length=64)
    assert packed["token_ids"].shape == (3, 13)
    assert text.pack_pairs(tokenizer(), *PAIRS, None, max_length=64, multiple_of=8)["token_ids"].shape == (3, 16)
    assert text.pack_pairs(tokenizer(), *PAIRS, None, max_length=10, multiple_of=8)["token_ids"].shape == (3, 10)


def test_pairs_are_the_same_eagerly_and_in_tf_data_in_english_and_chinese(tokenizer):
    first = tf.constant(["The company raised its profit.", "公司利润增长", "", "profit"])
    second = tf.constant(["Profits fell; the company is raising money.", "股价上涨。公司", "money", "公司" * 50])
    eager = text.pack_pairs(tokenizer, first, second, 16)
    batches = tf.data.Dataset.from_tensor_slices((first, second)).batch(4)
    streamed = next(iter(batches.map(lambda a, b: text.pack_pairs(tokenizer, a, b, 16))))
    for key, rows in eager.items():
        assert rows.numpy().tolist() == streamed[key].numpy().tolist()
    assert (eager["sequence_ids"].numpy()[3] == 1).all()


def test_chinese_pairs_stand_character_by_character():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "花", "呗", "付", "款"]
    chinese = text.WordPieceTokenizer("\n".join(words).encode())
    packed = text.pack_pairs(chinese, tf.constant(["花呗付款"]), tf.constant(["花呗"]), 8)
    # Room for 5: 4 + 2 lose one from the longer.
    assert packed["token_ids"].numpy().tolist() == [[2, 5, 6, 7, 3, 5, 6, 3]]


class Packer(tf.Module):
    """What an export of pairs holds."""

    def __init__(self, one: text.Tokenizer) -> None:
        super().__init__()
        self.tracked = one.assets
        self.pack = tf.function(
            lambda first, second: text.pack_pairs(one, first, second, 16),
            input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.string)],
        )


def test_exported_pairs_are_the_same_and_need_only_operations_of_tensorflow_serving(tokenizer, tmp_path):
    from kerasllm.export.operations import servers_without

    first, second = tf.constant(["The company", "公司利润"]), tf.constant(["raised its profit" * 9, "股价"])
    tf.saved_model.save(Packer(tokenizer), str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    eager = text.pack_pairs(tokenizer, first, second, 16)
    for key, rows in loaded.pack(first, second).items():
        assert rows.numpy().tolist() == eager[key].numpy().tolist()
    graph = loaded.pack.get_concrete_function(first, second).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    operations = {node.op for node in nodes} - {function.signature.name for function in graph.library.function}
    assert not [name for name in operations if servers_without(name)]
