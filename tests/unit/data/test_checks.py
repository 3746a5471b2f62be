"""Is what spoils a labelled table found, named with its rows, and stopped where it must be?"""

import pytest

from kerasllm.data.checks import check_table
from kerasllm.data.splits import drop_shared, split_by_text, text_key
from kerasllm.errors import DataError

TRAIN = [("profit rose", "good"), ("profit fell", "bad"), ("sales rose", "good"), ("sales fell", "bad")]
TEST = [("shares rose", "good"), ("shares fell", "bad")]


def kinds(report):
    return [finding.kind for finding in report.findings]


def found(report, kind):
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return finding


def test_a_sound_table_has_no_findings_and_is_counted():
    report = check_table({"train": TRAIN, "test": TEST}, known_labels=("bad", "good"))
    assert report.findings == ()
    assert report.counts == {"train": {"good": 2, "bad": 2}, "test": {"good": 1, "bad": 1}}
    report.raise_errors()


def test_the_report_is_an_aligned_table_with_the_findings_below():
    report = check_table({"train": TRAIN * 300, "test": TEST})
    assert str(report).splitlines()[:4] == [
        "label  train  test",
        "bad      600     1",
        "good     600     1",
        "all    1,200     2",
    ]
    assert str(report).splitlines()[4] == (
        "warning: Repeats of an earlier text in the train part: 1,196 rows: train row 5, train row 9, train row 13, "
        "train row 17, train row 21, and 1,191 more."
    )


def test_a_text_of_both_train_and_test_is_an_error_that_names_the_rows():
    report = check_table({"train": TRAIN, "test": [*TEST, ("  Profit\u3000FELL ", "bad")]})
    leak = found(report, "leak")
    assert (leak.severity, leak.places) == ("error", (("train", 2), ("test", 3)))
    with pytest.raises(DataError, match=r"In both the train and the test part: 1 text: train row 2, test row 3. Drop"):
        report.raise_errors()


def test_dropping_what_is_shared_mends_the_leak():
    test = [*TEST, ("PROFIT fell", "bad")]
    train = drop_shared(TRAIN, lambda row: row[0], [text for text, _ in test])
    assert train == [TRAIN[0], *TRAIN[2:]]
    check_table({"train": train, "test": test}).raise_errors()


def test_a_text_of_both_train_and_validation_is_a_warning():
    report = check_table({"train": TRAIN, "validation": TRAIN[:1], "test": TEST})
    duplicate = found(report, "duplicate")
    assert (duplicate.severity, duplicate.places) == ("warning", (("train", 1), ("validation", 1)))
    report.raise_errors()


def test_unknown_labels_are_an_error_for_each_label():
    report = check_table({"train": [*TRAIN, ("sales stood", "neutrl")], "test": TEST}, known_labels=("bad", "good"))
    assert found(report, "unknown label").places == (("train", 5),)
    with pytest.raises(DataError, match=r"Label 'neutrl' is unknown, in 1 row: train row 5. .* has bad, good"):
        report.raise_errors()


def test_rows_without_text_and_parts_without_rows_are_errors():
    report = check_table({"train": [*TRAIN, (" ", "good"), ("", "bad")], "test": []})
    assert found(report, "empty text").places == (("train", 5), ("train", 6))
    with pytest.raises(DataError) as caught:
        report.raise_errors()
    assert str(caught.value).splitlines() == [
        "2 rows without text: train row 5, train row 6. Remove them or fill them in.",
        "The test part has no rows. Give more data or other shares.",
    ]


def test_rare_and_absent_labels_are_warnings():
    report = check_table({"train": [*TRAIN, ("sales stood", "flat")], "test": [*TEST, ("what?", "odd")]})
    assert "Labels with fewer than 2 rows in the train part: flat (1)." in found(report, "rare label").message
    assert "no row of odd" in found(report, "absent label").message


def test_a_label_that_is_known_but_nowhere_seen_cannot_be_learned():
    report = check_table({"train": TRAIN, "test": TEST}, known_labels=("bad", "flat", "good"))
    assert "no row of flat" in found(report, "absent label").message


def test_contradicting_labels_of_one_text_are_named_together():
    report = check_table({"train": [*TRAIN, ("Profit rose", "bad")], "test": TEST})
    contradiction = found(report, "contradiction")
    assert contradiction.places == (("train", 1), ("train", 5))
    assert "With several labels: 1 text: train row 1, train row 5 (good / bad)" in contradiction.message


def test_a_row_without_a_label_teaches_another_head_and_contradicts_nothing():
    report = check_table({"train": [*TRAIN, ("profit rose", "")], "test": TEST}, known_labels=("bad", "good"))
    assert kinds(report) == ["duplicate"]
    assert report.counts["train"] == {"good": 2, "bad": 2}


def test_texts_that_differ_in_numbers_links_and_marks_only_are_near_duplicates():
    train = [*TRAIN, ("Profit rose 5 % to $1.2: https://a.example/x", "good")]
    report = check_table({"train": train, "test": [*TEST, ("profit rose 17 % to 3!", "good"), ("2021", "bad")]})
    assert kinds(report) == ["near-duplicate"]
    assert found(report, "near-duplicate").places == (("train", 5), ("test", 3))


def test_near_duplicates_are_found_in_chinese():
    report = check_table(
        {"train": [("净利增长5%", "good")] * 2, "test": [("净利增长12％！", "good"), ("净利下降", "good")]}
    )
    assert found(report, "near-duplicate").places == (("train", 1), ("test", 1))


def test_strong_imbalance_is_a_warning():
    many = [(f"text {word}", "good") for word in "abcdefghijklmnopqrstuvwxyzäöüßéèêçñå"[:40]]
    assert "imbalance" not in kinds(check_table({"train": many[:19] + TRAIN[1:2]}, min_rows_per_label=1))
    assert "20 rows of good and 1 of bad" in found(check_table({"train": many[:20] + TRAIN[1:2]}), "imbalance").message


def test_equal_texts_share_a_key_and_others_do_not():
    assert text_key("Profit  rose\n") == text_key("PROFIT rose")
    assert text_key("profit rose") != text_key("profitrose")


def test_a_split_keeps_the_first_of_equal_texts_and_does_not_depend_on_order():
    rows = [f"text {index}" for index in range(2000)]
    parts = split_by_text(rows + [row.upper() for row in rows], str, {"test": 0.2, "validation": 0.1})
    assert list(parts) == ["train", "test", "validation"]
    assert sorted(row for part in parts.values() for row in part) == sorted(rows)
    # 2,000 draws with shares 0.2 and 0.1: three standard deviations are 54 and 40 rows.
    assert abs(len(parts["test"]) - 400) < 54
    assert abs(len(parts["validation"]) - 200) < 40
    backwards = split_by_text(rows[::-1], str, {"test": 0.2, "validation": 0.1})
    assert {part: set(rows) for part, rows in parts.items()} == {part: set(rows) for part, rows in backwards.items()}


def test_a_row_s_part_is_the_hash_of_its_text():
    # text_key("a") begins ca978112: 0xca978112 / 16^8 = 0.7914, so it is held out where the share is 0.8, not 0.79.
    assert text_key("a").startswith("ca978112")
    assert split_by_text(["a"], str, {"test": 0.8})["test"] == ["a"]
    assert split_by_text(["a"], str, {"test": 0.79})["train"] == ["a"]
    assert split_by_text(["a"], str, {"test": 0.5, "validation": 0.3})["validation"] == ["a"]


def test_texts_of_a_given_test_part_are_left_out():
    assert split_by_text(["a", "b"], str, {}, without=["A "]) == {"train": ["b"]}
