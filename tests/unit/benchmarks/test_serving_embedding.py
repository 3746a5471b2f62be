"""Do all sides of the benchmark get the same batches, and are their speeds compared round by round?"""

from benchmarks.serving_embedding import BARS, compared_speeds, draw, read_sentences


def test_sentences_come_from_their_column_once(tmp_path):
    (tmp_path / "a.tsv").write_text("label\tsentence\n1\tb\n0\ta\n1\tb\n")
    assert read_sentences(tmp_path / "a.tsv", "sentence") == ["a", "b"]


def test_a_round_draws_the_same_batches_each_time_and_another_round_others():
    sentences = [str(number) for number in range(100)]
    batches = draw(sentences, size=8, count=3, seed=1)
    assert [len(set(batch)) for batch in batches] == [8, 8, 8]
    assert draw(sentences, 8, 3, seed=1) == batches
    assert draw(sentences, 8, 3, seed=2) != batches


def test_ratios_are_those_of_the_rounds():
    ours, peer = next(iter(BARS))
    # 10 / 5 = 2, 30 / 10 = 3, 8 / 8 = 1: the median is 2, where the ratio of medians would be 10 / 8
    speeds = {(ours, 1): [10.0, 30.0, 8.0], (peer, 1): [5.0, 10.0, 8.0]}
    assert compared_speeds(speeds, ours, peer, [1]) == ["batch 1 2.00x (1.00 to 3.00, bar 1.05x)"]
