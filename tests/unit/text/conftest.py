"""Which tokenizers do the tests of text use? Small ones, learned from a few lines."""

import pytest

from kerasllm import text

LINES = [
    "The company raised its profit, and the shares rose.",
    "Profits fell; the company is raising money.",
    "公司利润增长，股价上涨。",
    "Unhappiness and unhappy happenings happen.",
    "J. Smith bought 1,234 shares at $5.60!",
] * 20


@pytest.fixture(scope="session")
def wordpiece() -> text.WordPieceTokenizer:
    return text.train_wordpiece(LINES, 300)


@pytest.fixture(scope="session")
def sentencepiece() -> text.SentencePieceTokenizer:
    return text.train_sentencepiece(LINES, 330)


@pytest.fixture(scope="session")
def byte() -> text.ByteTokenizer:
    return text.ByteTokenizer()


@pytest.fixture(params=["wordpiece", "sentencepiece", "byte"])
def tokenizer(request: pytest.FixtureRequest) -> text.Tokenizer:
    return request.getfixturevalue(request.param)
