"""Are labelled tables read line by line, refused with the place, and batched by step?"""

from pathlib import Path

import numpy as np
import pytest

from kerasllm import config, data, text
from kerasllm.errors import DataError
from kerasllm.training import distributed, make_strategy

SETTINGS = config.Data(labels=("negative", "neutral", "positive"))
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
TOKENIZER = text.WordPieceTokenizer("\n".join(WORDS).encode())


def run_of(global_batch: int = 4, sequence_length: int = 64, seed: int = 1) -> config.Run:
    train = {"steps": 1, "global_batch": global_batch, "sequence_length": sequence_length}
    return config.make_run({"seed": seed, "objective": {"task": "text_classification"}, "train": train})


def examples_of(count: int) -> data.LabelledTexts:
    """Text number i is "a" i times, of class i % 3."""
    return data.LabelledTexts(
        ["a " * i for i in range(count)], {"label": [i % 3 for i in range(count)]}, list(range(2, count + 2))
    )


def lengths_in(batches: list[dict[str, np.ndarray]]) -> list[int]:
    """Which texts are in the batches, told by their number of words; -1 for filling rows."""
    return [
        int(length) - 2 if weight else -1
        for batch in batches
        for length, weight in zip(batch["sequence_ids"].sum(axis=1), batch["label_weights"], strict=True)
    ]


def batches(examples: data.LabelledTexts, run: config.Run, count: int | None = None, **arguments) -> list:
    dataset = data.labelled_batches(examples, TOKENIZER, run, **arguments)
    return list((dataset if count is None else dataset.take(count)).as_numpy_iterator())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", 'text\tother\tlabel\nIt "rose\t1\tpositive\n跌了\t2\tnegative\n'),
        ("x.csv", 'label,text\npositive,"It ""rose"\nnegative,跌了\n'),
        ("x.jsonl", '{"text": "It \\"rose", "label": "positive"}\n{"text": "跌了", "label": "negative"}\n'),
    ],
)
def test_the_three_forms_of_tables_read_alike(name: str, content: str, tmp_path: Path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    examples = data.read_labelled(tmp_path / name, SETTINGS)
    assert examples.texts == ['It "rose', "跌了"]
    assert examples.labels == {"label": [2, 0]}
    assert examples.rows == ([1, 2] if name == "x.jsonl" else [2, 3])


def test_a_text_of_csv_may_have_several_lines_and_the_row_is_where_it_ends(tmp_path: Path):
    (tmp_path / "x.csv").write_text('text,label\n"one\ntwo",neutral\nthree,neutral\n')
    examples = data.read_labelled(tmp_path / "x.csv", SETTINGS)
    assert examples.texts == ["one\ntwo", "three"]
    assert examples.rows == [3, 4]


def test_columns_are_named_by_the_configuration(tmp_path: Path):
    (tmp_path / "x.tsv").write_text("sentence\tsentiment\nup\tpositive\n")
    settings = config.Data(text_column="sentence", label_column="sentiment", labels=("positive",))
    assert data.read_labelled(tmp_path / "x.tsv", settings).labels["label"] == [0]


def test_labels_of_jsonl_may_be_numbers(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"text": "up", "label": 1}\n')
    assert data.read_labelled(tmp_path / "x.jsonl", config.Data(labels=("0", "1"))).labels["label"] == [1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", b"text\tlabel\nup\tpositve\n", r"x\.tsv:2: unknown label 'positve'.*Did you mean 'positive'\?"),
        (
            "x.tsv",
            b"text\tlabel\nup\tpositive\nno\t\n",
            r"x\.tsv:3: unknown label ''; data\.labels has negative, neutral",
        ),
        ("x.tsv", b"sentence\tlabel\nup\tpositive\n", r"no column 'text' \(found: sentence, label\)"),
        ("x.tsv", b"text\tlabel\nup\tpositive\textra\n", r"x\.tsv:2: 3 columns, the header has 2"),
        ("x.tsv", b"text\tlabel\nup\tpositive\n \tneutral\n\tneutral\n", r"x\.tsv:3: empty text \(2 such rows\)"),
        ("x.tsv", b"text\tlabel\n", "no rows"),
        ("x.tsv", b"", "the file is empty"),
        ("x.tsv", b"text\tlabel\n\xe4\tpositive\n", "not UTF-8 at byte 11"),
        ("x.csv", b'text,label\n"up,positive\n', r"x\.csv:2: not CSV"),
        ("x.jsonl", b'{"text": "up"}\n', r"x\.jsonl:1: no column 'label' \(found: text\)"),
        ("x.jsonl", b"[1]\n", r"x\.jsonl:1: a list, not an object"),
        ("x.xlsx", b"PK", r"unknown ending '\.xlsx'"),
    ],
)
def test_a_bad_table_is_refused_with_file_and_line(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.read_labelled(tmp_path / name, SETTINGS)


def test_a_missing_table_and_missing_labels_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="cannot read the file"):
        data.read_labelled(tmp_path / "x.tsv", SETTINGS)
    with pytest.raises(DataError, match=r"data\.labels is empty"):
        data.read_labelled(tmp_path / "x.tsv", config.Data())


def test_batches_are_padded_to_sixteens_and_at_most_to_the_sequence_length():
    # Texts of 0-3, 4-7, ..., 60-63 words and two special tokens: widths rise by 16 and end at 64.
    shapes = [batch["token_ids"].shape for batch in batches(examples_of(64), run_of(), training=False)]
    assert shapes[:5] == [(4, 16)] * 3 + [(4, 32)] * 2  # 12-15 words need 17 tokens
    assert max(width for _, width in shapes) == 64


def test_evaluation_keeps_the_order_and_fills_the_last_batch_with_weight_0():
    evaluation = batches(examples_of(10), run_of(), training=False)
    assert lengths_in(evaluation) == [*range(10), -1, -1]
    assert evaluation[1]["label_labels"].tolist() == [1, 2, 0, 1]
    assert data.batches_per_epoch(examples_of(10), run_of(), training=False) == 3


def test_training_shows_every_epoch_in_another_order_and_leaves_out_less_than_a_batch():
    assert data.batches_per_epoch(examples_of(10), run_of(), training=True) == 2
    epochs = batches(examples_of(10), run_of(), 4, training=True)
    first, second = lengths_in(epochs[:2]), lengths_in(epochs[2:])
    assert len(set(first)) == len(set(second)) == 8
    assert first != second
    assert all(
        label == length % 3
        for length, label in zip(first, [*epochs[0]["label_labels"], *epochs[1]["label_labels"]], strict=True)
    )


def test_training_resumes_at_any_step():
    whole = lengths_in(batches(examples_of(10), run_of(), 9, training=True))
    assert lengths_in(batches(examples_of(10), run_of(), 4, training=True, start_step=5)) == whole[5 * 4 :]


def test_the_order_depends_on_the_seed():
    one, other = (lengths_in(batches(examples_of(40), run_of(seed=seed), 5, training=True)) for seed in (1, 2))
    assert one != other


def test_fewer_texts_than_a_batch_are_repeated_in_training():
    assert sorted(set(lengths_in(batches(examples_of(3), run_of(), 2, training=True)))) == [0, 1, 2]


def test_batches_have_the_agreed_names_and_types():
    spec = data.labelled_batches(examples_of(5), TOKENIZER, run_of(), training=True).element_spec
    assert {name: (part.shape.as_list(), part.dtype.name) for name, part in spec.items()} == {
        "token_ids": ([4, None], "int32"),
        "token_type_ids": ([4, None], "int32"),
        "sequence_ids": ([4, None], "int32"),
        "label_labels": ([4], "int32"),
        "label_weights": ([4], "float32"),
    }


def test_examples_can_be_taken_by_number():
    assert examples_of(5).take([4, 1]).rows == [6, 3]


def test_rows_of_like_length_share_a_batch_in_training():
    # 48 texts of 0 to 47 words in batches of 8: sorted, a batch spans 8 lengths; in random order, nearly all of them.
    run = run_of(global_batch=8)
    epoch = batches(examples_of(48), run, 6, training=True)
    assert all(max(lengths) - min(lengths) == 7 for lengths in (lengths_in([batch]) for batch in epoch))
    shortest = [min(lengths_in([batch])) for batch in epoch]
    assert sorted(shortest) == [0, 8, 16, 24, 32, 40]
    assert shortest != sorted(shortest)  # the batches themselves come in a random order


@pytest.mark.parametrize("replicas", [2, 4])
def test_all_replicas_have_rows_of_one_width(replicas: int):
    # Rows of like length share a batch of 8, which is padded as a whole: the replicas' parts are its rows in order.
    run = run_of(global_batch=8)
    next_batch = distributed(
        make_strategy("mirrored", replicas), data.labelled_batches(examples_of(48), TOKENIZER, run, training=True)
    )
    widths = set()
    for whole in batches(examples_of(48), run, 6, training=True):
        parts = [part.numpy() for part in next_batch()["token_ids"].values]
        assert {part.shape for part in parts} == {(8 // replicas, whole["token_ids"].shape[1])}
        np.testing.assert_array_equal(np.concatenate(parts), whole["token_ids"])
        widths.add(parts[0].shape[1])
    assert widths == {16, 32, 48, 64}


def test_with_consistency_each_training_row_stands_there_twice_and_evaluation_is_as_ever():
    run = run_of().model_copy(update={"objective": config.Objective(task="text_classification", consistency=1.0)})
    (batch,) = batches(examples_of(8), run, 1, training=True)
    np.testing.assert_array_equal(batch["token_ids"][::2], batch["token_ids"][1::2])
    assert batch["twice_weights"].tolist() == [1.0] * 8
    assert "twice_weights" not in batches(examples_of(8), run, training=False)[0]


TWO = config.Data(
    heads={
        "mood": config.LabelHead(column="mood", labels=("bad", "good")),
        "topic": config.LabelHead(column="topic", labels=("x", "y")),
    },
    out_of_scope_label="oos",
)


def test_rows_may_lack_the_label_of_one_head_and_files_its_column(tmp_path: Path):
    (tmp_path / "x.tsv").write_text("text\tmood\ttopic\none\tgood\t\ntwo\t\ty\nthree\toos\tx\n")
    examples = data.read_labelled(tmp_path / "x.tsv", TWO)
    assert examples.labels == {"mood": [1, data.NO_LABEL, data.OUT_OF_SCOPE], "topic": [data.NO_LABEL, 1, 0]}
    (batch,) = batches(examples, run_of(), training=False)
    assert batch["mood_weights"].tolist() == [1.0, 0.0, 0.0, 0.0]  # out of scope teaches nothing; the last only fills
    assert batch["topic_weights"].tolist() == [0.0, 1.0, 1.0, 0.0]
    (tmp_path / "y.tsv").write_text("text\tmood\none\tgood\n")
    assert data.read_labelled(tmp_path / "y.tsv", TWO).labels["topic"] == [data.NO_LABEL]
    (tmp_path / "z.tsv").write_text("text\tmood\none\t\n")
    with pytest.raises(DataError, match=r"z\.tsv:2: no label in any of the columns mood, topic"):
        data.read_labelled(tmp_path / "z.tsv", TWO)


def test_text_pairs_are_read_and_packed_together(tmp_path: Path):
    settings = config.Data(labels=("0", "1"), second_text_column="other")
    (tmp_path / "x.tsv").write_text("text\tother\tlabel\na a\ta\t1\n")
    examples = data.read_labelled(tmp_path / "x.tsv", settings)
    assert (examples.texts, examples.second) == (["a a"], ["a"])
    (batch,) = batches(examples, run_of(global_batch=1), training=False)
    # [CLS] a a [SEP] a [SEP]
    assert batch["token_ids"][0, :7].tolist() == [2, 5, 5, 3, 5, 3, 0]
    assert batch["token_type_ids"][0, :7].tolist() == [0, 0, 0, 0, 1, 1, 0]
