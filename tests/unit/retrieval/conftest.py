"""What do the tests of retrieval search with? A small encoder with random weights, and a re-ranker."""

import pytest

from kerasllm import models, text
from kerasllm.config import make_run
from kerasllm.trained import Trained

REPLIES = [
    "You can reset your password in the settings.",
    "The card arrives within five days.",
    "转账需要两天时间。",
    "A transfer takes two days.",
    "We close at six.",
]
SETTINGS = {
    "backbone": {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 64},
    "matching": {"query_length": 16, "passage_length": 32, "hard_negatives": 1},
    "train": {"steps": 4, "global_batch": 4, "sequence_length": 32},
    "export": {"sequence_length": 32},
}


def run_of(task: str, **sections):
    return make_run({**SETTINGS, "objective": {"task": task, "pooling": "mean"}, **sections})


@pytest.fixture(scope="session")
def small_tokenizer() -> text.Tokenizer:
    return text.train_wordpiece(REPLIES * 20, 300)


@pytest.fixture(scope="session")
def encoder(small_tokenizer) -> Trained:
    run = run_of("text_matching")
    return Trained(run, small_tokenizer, models.from_run(run, small_tokenizer.vocab_size))


@pytest.fixture(scope="session")
def reranker(small_tokenizer) -> Trained:
    run = run_of("reranking")
    return Trained(run, small_tokenizer, models.from_run(run, small_tokenizer.vocab_size))


@pytest.fixture
def replies() -> list[str]:
    return list(REPLIES)
