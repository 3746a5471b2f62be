"""Do the recommender's programs go from a log to a served list, and take new items without training?"""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the operations of the export

from kerasllm.text import WordPieceTokenizer

pytestmark = pytest.mark.slow  # seven programs

SMALL = [
    "backbone.num_layers=1",
    "recommendation.history_length=10",
    "recommendation.num_negatives=20",
    "recommendation.table_folds=2",
    "recommendation.text_length=16",
    "train.epochs=1",
]


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run([sys.executable, "-m", program, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with prepared data, a vocabulary and a trained recommender."""
    path = tmp_path_factory.mktemp("recommendation")
    random = np.random.default_rng(1)
    kinds = ["crime", "music", "nature"]
    with open(path / "items.jsonl", "w", encoding="utf-8") as file:
        for number in range(30):
            kind = kinds[number % 3]
            item = {
                "item": f"i{number}",
                "title": f"The {kind} {number}",
                "description": f"a {kind} story",
                "categories": [kind],
            }
            print(json.dumps(item), file=file)
    with open(path / "log.tsv", "w", encoding="utf-8") as file:
        print("user\titem\ttime\tevent", file=file)
        for user in range(40):
            for place, item in enumerate(random.permutation(10)):
                event = "share" if user % 3 == item % 3 else "click" if place % 2 else "view"
                print(f"u{user}", f"i{3 * item + user % 3}", 1_000 * place + user, event, sep="\t", file=file)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "story", *kinds, "poem"]
    WordPieceTokenizer("\n".join(words).encode()).save(path / "tokenizer")
    run(
        "apps.recommendation.prepare",
        "--items",
        f"{path}/items.jsonl",
        "--events",
        f"{path}/log.tsv",
        "--output",
        f"{path}/data",
    )
    settings = [part for setting in SMALL for part in ("--set", setting)]
    run(
        "apps.recommendation.train", "--config", "configs/recommendation/tiny.yaml", "--data", f"{path}/data",
        "--tokenizer", f"{path}/tokenizer", "--workdir", f"{path}/run", *settings,
    )  # fmt: skip
    return path


def test_evaluation_has_every_metric_with_an_interval(folder):
    run(
        "apps.recommendation.evaluate", "--workdir", f"{folder}/run", "--data", f"{folder}/data/test.tsv",
        "--history", f"{folder}/data/validation.tsv", "--output", f"{folder}/test.json",
    )  # fmt: skip
    scores = json.loads((folder / "test.json").read_text())
    for name in ("ndcg@10", "recall@10", "recall@50", "auc"):
        low, high = scores[f"{name}_interval"]
        assert low <= scores[name] <= high
    assert 0 < scores["coverage"] <= 1
    assert scores["by_activity"]
    assert scores["ndcg@10"] > 0.35  # each user clicks on one kind: 10 of 30 items; a random list has about 0.2


def test_prediction_gives_every_user_a_list_without_what_he_had(folder):
    run("apps.recommendation.predict", "--workdir", f"{folder}/run", "--output", f"{folder}/lists.tsv")
    rows = [line.split("\t") for line in (folder / "lists.tsv").read_text().splitlines()[1:]]
    log = [line.split("\t") for line in (folder / "data" / "train.tsv").read_text().splitlines()[1:]]
    had = {(user, item) for user, item, *_ in log}
    assert len({row[0] for row in rows}) == 40
    assert not any((row[0], row[2]) in had for row in rows)
    assert all(row[5].startswith(("because you liked The", "popular")) for row in rows)


def test_a_new_item_is_served_after_index_and_export_without_training(folder):
    run("serving.export", "--workdir", f"{folder}/run", "--base_path", f"{folder}/exports", "--name", "films")
    new = {"item": "new", "title": "A new crime", "description": "a crime poem", "categories": ["crime"]}
    (folder / "new.jsonl").write_text(json.dumps(new) + "\n")
    run("apps.recommendation.index", "--workdir", f"{folder}/run", "--items", f"{folder}/new.jsonl")
    run("serving.export", "--workdir", f"{folder}/run", "--base_path", f"{folder}/exports", "--name", "films")
    score = [
        tf.saved_model.load(str(folder / "exports" / "films" / version))
        .signatures["score"](history=tf.constant(["i0:5,i3:5"]), candidates=tf.constant(["new,i6"]))["scores"]
        .numpy()[0]
        for version in ("1", "2")
    ]
    assert score[0][0] == pytest.approx(-1e9)  # not known yet
    assert abs(score[1][0]) < 100
    assert score[1][1] == pytest.approx(score[0][1], abs=1e-5)  # what was there has not changed
