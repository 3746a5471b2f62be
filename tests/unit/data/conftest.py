"""Which corpus do the tests of data read? A small one, prepared once, with two sources and a third of one document."""

import random
from pathlib import Path

import pytest

from kerasllm import config, data

WORDS = ["profit", "shares", "market", "company", "report", "growth", "bank", "trade", "price", "order", "plan", "year"]
RUN = {
    "tokenizer": {"vocab_size": 300},
    "data": {"held_out_share": 0.2, "shard_megabytes": 1},
    "train": {"steps": 10, "sequence_length": 48, "global_batch": 4},
}


def make_run(**sections: dict) -> config.Run:
    """The run of these tests with some settings changed."""
    tree = {name: {**RUN.get(name, {}), **sections.get(name, {})} for name in {*RUN, *sections}}
    return config.make_run(tree)


def document(rng: random.Random, mark: str) -> str:
    sentences = [
        " ".join([mark.capitalize(), *rng.choices(WORDS, k=rng.randint(2, 9))]) + "." for _ in range(rng.randint(1, 12))
    ]
    return " ".join(sentences)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base, rng = tmp_path_factory.mktemp("raw"), random.Random(7)
    for name in ("alpha", "beta"):
        documents = [f"<DOC> {name} {i}\n{document(rng, name)}" for i in range(150)]
        (base / f"{name}.txt").write_text("\n".join(documents), encoding="utf-8")
    (base / "single.txt").write_text("<DOC> gamma\n" + "Gamma market report. " * 60, encoding="utf-8")
    output = base / "corpus"
    data.prepare_corpus([str(base / f"{name}.txt") for name in ("alpha", "beta", "single")], output, make_run())
    return output


@pytest.fixture(scope="session")
def corpus(folder: Path) -> data.Corpus:
    return data.open_corpus(folder, verify=True)


@pytest.fixture(scope="session")
def train(corpus: data.Corpus) -> data.Split:
    return corpus.split("train")
