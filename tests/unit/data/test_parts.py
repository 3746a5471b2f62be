"""Are labelled files read by their form, joined, dealt without leaks, and refused where they are bad?"""

import pytest

from kerasllm.config import Data, LabelHead
from kerasllm.data import formats, parts
from kerasllm.data.formats import Row, read_format
from kerasllm.errors import ConfigError, DataError

ROWS = [Row(f"text number {index}", {"label": "neutral"}, "a.tsv") for index in range(1000)]
TWO = Data(
    heads={
        "sentiment": LabelHead(column="mood", labels=("negative", "positive")),
        "topic": LabelHead(column="topic", labels=("Fed", "Stocks")),
    }
)


def test_equal_texts_never_stand_in_two_parts_and_only_once():
    doubled = ROWS + [Row(row.text.upper() + " ", row.labels, "b.tsv") for row in ROWS]
    dealt = parts.deal(doubled, [], Data())
    assert sorted(row.text for rows in dealt.values() for row in rows) == sorted(row.text for row in ROWS)


def test_the_shares_are_met():
    dealt = parts.deal(ROWS, [], Data(validation_share=0.1, test_share=0.2))
    # 1,000 draws with shares 0.1 and 0.2: three standard deviations are 28 and 38 rows.
    assert abs(len(dealt["validation"]) - 100) < 28
    assert abs(len(dealt["test"]) - 200) < 38


def test_a_given_test_file_is_kept_whole_and_its_texts_leave_the_training_part():
    test = [Row("text number 7", {"label": "positive"}, "test.tsv")] * 2
    dealt = parts.deal(ROWS, test, Data())
    assert dealt["test"] == test
    assert all(row.text != "text number 7" for row in dealt["train"] + dealt["validation"])


def test_a_text_of_two_files_keeps_the_labels_of_both_and_the_first_of_one_column():
    mood, topic = Row("Rates rise", {"mood": "negative"}, "a"), Row("rates RISE", {"topic": "Fed"}, "b")
    (row,) = parts.join([mood, topic, Row("rates rise", {"mood": "positive"}, "c")])
    assert row == Row("Rates rise", {"mood": "negative", "topic": "Fed"}, "a")


def test_the_written_table_has_a_column_for_each_head_and_reads_back(tmp_path):
    from kerasllm.data import NO_LABEL, read_labelled

    rows = [Row("up", {"mood": "positive"}, "a"), Row("rates", {"topic": "Fed"}, "b")]
    parts.write_parts({"train": rows}, TWO, tmp_path / "out")
    assert (tmp_path / "out" / "train.tsv").read_text().splitlines()[:2] == [
        "text\tmood\ttopic\tsource",
        "up\tpositive\t\ta",
    ]
    examples = read_labelled(tmp_path / "out" / "train.tsv", TWO)
    assert examples.labels == {"sentiment": [1, NO_LABEL], "topic": [NO_LABEL, 0]}
    with pytest.raises(DataError, match="exists already"):
        parts.write_parts({"train": rows}, TWO, tmp_path / "out")


def test_labels_of_public_forms_become_ours_and_marked_rows_are_left_out(tmp_path):
    path = tmp_path / "seed.tsv"
    path.write_text("title\tlabel\ttitle_also_in_test\n净利增长\t1\t0\n净利下降\t0\t0\n中标\t1\t1\n", encoding="utf-8")
    rows = read_format(f"zh_fin_news_sentiment={path}", Data())
    assert [(row.text, row.labels) for row in rows] == [
        ("净利增长", {"label": "positive"}),
        ("净利下降", {"label": "negative"}),
    ]
    (tmp_path / "test.tsv").write_text("title\tlabel\n中标\t1\n", encoding="utf-8")  # the public test file marks none
    (row,) = read_format(f"zh_fin_news_sentiment={tmp_path / 'test.tsv'}", Data())
    assert row.text == "中标"


def test_a_public_form_fills_the_column_of_the_head_that_it_speaks_of(tmp_path):
    (tmp_path / "t.tsv").write_text("text\tlabel\ttopic\nrates\t1\tFed\n")
    (row,) = read_format(f"twitter_fin_topic={tmp_path}/t.tsv", TWO)
    assert row.labels == {"topic": "Fed"}
    with pytest.raises(ConfigError, match="says the intent, the run has the heads sentiment, topic"):
        read_format(f"banking77={tmp_path}/t.tsv", TWO)


def test_a_smallest_agreement_can_be_asked_for(tmp_path):
    path = tmp_path / "p.tsv"
    path.write_text("sentence\tlabel\tagree_at_least\na\tneutral\t50\nb\tneutral\t75\nc\tpositive\t100\n")
    assert [row.text for row in read_format(f"financial_phrasebank:75={path}", Data())] == ["b", "c"]
    assert len(read_format(f"financial_phrasebank={path}", Data())) == 3
    with pytest.raises(ConfigError, match="no choice 'best'"):
        read_format(f"financial_phrasebank:best={path}", Data())


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("unknown_form=x.tsv", ConfigError, "no format 'unknown_form'"),
        ("missing.tsv", DataError, "missing.tsv"),
    ],
)
def test_a_wrong_input_is_named(spec, error, message):
    with pytest.raises(error, match=message):
        read_format(spec, Data())


def test_an_empty_text_is_named_with_its_line(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tlabel\nfine\tneutral\n \tneutral\n")
    with pytest.raises(DataError, match=r"a\.tsv:3: the text is empty"):
        read_format(str(tmp_path / "a.tsv"), Data())


def test_a_label_that_the_configuration_does_not_know_is_refused():
    with pytest.raises(DataError, match="neutral"):
        parts.check({"train": ROWS, "test": ROWS[:0]}, Data(labels=("good", "bad")))


def test_every_public_form_names_a_head():
    assert {form.head for form in formats.FORMATS.values()} == {"sentiment", "topic", "intent"}
