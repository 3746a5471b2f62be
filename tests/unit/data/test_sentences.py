"""Are sentences cut where a reader would cut them, and is nothing lost?"""

import pytest

from kerasllm.data.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four.", ["One.", " Two!", " Three?", " Four."]),
        ("Mr. Smith met Dr. J. Watson at 5 p.m. They spoke.", ["Mr. Smith met Dr. J. Watson at 5 p.m. They spoke."]),
        ("So did I. Then he left.", ["So did I.", " Then he left."]),
        ("Prices rose 3.5 percent. e.g. oil", ["Prices rose 3.5 percent. e.g. oil"]),
        ('He said "Stop." She left.', ['He said "Stop."', " She left."]),
        ("Acme Inc. rose. Beta Ltd. fell.", ["Acme Inc. rose.", " Beta Ltd. fell."]),
        ("the cargo. Then", ["the cargo.", " Then"]),  # not the abbreviation "go." nor "co."
        ("a line\nanother line", ["a line", "\nanother line"]),
        ("wiki said . <unk> came .", ["wiki said .", " <unk> came ."]),
        ('wiki said . " \n Then', ['wiki said . " ', "\n Then"]),  # the quote closes
        ("他来了。她走了！真的吗？好", ["他来了。", "她走了！", "真的吗？", "好"]),
        ("他说：“走吧。”她不走。", ["他说：“走吧。”", "她不走。"]),
        ("股价上涨3.5%。Profit rose. 利润增长。", ["股价上涨3.5%。", "Profit rose.", " 利润增长。"]),
        ("Wait... what", ["Wait... what"]),
        ("no end", ["no end"]),
        ("", [""]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("text", ["\n\n a. B\n\n", "。。。！？", "....", " . A . B . ", "A.\r\nB.\n \nC", "“”。”）A"])
def test_nothing_is_lost_and_no_sentence_is_white_space(text: str):
    parts = split_sentences(text)
    assert "".join(parts) == text
    assert all(part.strip() for part in parts)
