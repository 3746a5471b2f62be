"""Are labelled files dealt without leaks, are bad ones refused, and does a fine-tuning start where it says?"""

import pytest

from apps.financial_sentiment import formats, prepare, task
from apps.financial_sentiment.formats import Row
from kerasllm.config import Data, make_run
from kerasllm.errors import ConfigError, DataError

ROWS = [Row(f"text number {index}", "neutral", "a.tsv") for index in range(1000)]


def test_equal_texts_never_stand_in_two_parts_and_only_once():
    doubled = ROWS + [Row(row.text.upper() + " ", row.label, "b.tsv") for row in ROWS]
    parts = prepare.split(doubled, [], Data())
    texts = [" ".join(row.text.casefold().split()) for rows in parts.values() for row in rows]
    assert sorted(texts) == sorted(row.text for row in ROWS)


def test_the_shares_are_met_and_the_parts_do_not_depend_on_the_order():
    parts = prepare.split(ROWS, [], Data(validation_share=0.1, test_share=0.2))
    backwards = prepare.split(ROWS[::-1], [], Data(validation_share=0.1, test_share=0.2))
    # 1,000 draws with shares 0.1 and 0.2: three standard deviations are 28 and 38 rows.
    assert abs(len(parts["validation"]) - 100) < 28
    assert abs(len(parts["test"]) - 200) < 38
    assert {name: set(rows) for name, rows in parts.items()} == {name: set(rows) for name, rows in backwards.items()}


def test_a_given_test_file_is_kept_whole_and_its_texts_leave_the_training_part():
    test = [Row("text number 7", "positive", "test.tsv")]
    parts = prepare.split(ROWS, test, Data())
    assert parts["test"] == test
    assert all(row.text != "text number 7" for row in parts["train"] + parts["validation"])


def test_labels_of_public_forms_become_ours_and_marked_rows_are_left_out(tmp_path):
    path = tmp_path / "seed.tsv"
    path.write_text("title\tlabel\ttitle_also_in_test\n净利增长\t1\t0\n净利下降\t0\t0\n中标\t1\t1\n", encoding="utf-8")
    rows = formats.read(f"zh_fin_news_sentiment={path}")
    assert [(row.text, row.label) for row in rows] == [("净利增长", "positive"), ("净利下降", "negative")]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("unknown_form=x.tsv", ConfigError, "no format 'unknown_form'"),
        ("missing.tsv", DataError, "missing.tsv"),
    ],
)
def test_a_wrong_input_is_named(spec, error, message):
    with pytest.raises(error, match=message):
        formats.read(spec)


def test_an_empty_text_is_named_with_its_line(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tlabel\nfine\tneutral\n \tneutral\n")
    with pytest.raises(DataError, match=r"a\.tsv:3: the text is empty"):
        formats.read(str(tmp_path / "a.tsv"))


def test_a_label_that_the_configuration_does_not_know_is_refused():
    with pytest.raises(DataError, match=r"label 'neutral' of 'text number 0' is not in data.labels \(good, bad\)"):
        prepare.check_labels(ROWS, ("good", "bad"), "the train part")


def test_a_start_from_random_weights_needs_a_vocabulary():
    with pytest.raises(ConfigError, match="give --init_from"):
        task.starting_point(make_run({}), None, None)


def test_a_folder_of_neither_kind_is_no_start(tmp_path):
    with pytest.raises(ConfigError, match="neither a workdir"):
        task.starting_point(make_run({}), str(tmp_path), None)
