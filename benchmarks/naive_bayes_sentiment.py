"""What does naive Bayes reach on the labelled files that a classifier is fine-tuned on?

python -m benchmarks.naive_bayes_sentiment --train data/sentiment/train.tsv --test data/sentiment/test.tsv
"""

import json

from absl import flags

from apps.flags import define_run_flags, run_from_flags, run_program
from benchmarks.baselines import naive_bayes
from kerasllm.errors import ConfigError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from."""
    define_run_flags()
    flags.DEFINE_multi_string("train", [], "Labelled file to learn from; may be repeated.")
    flags.DEFINE_string("test", None, "Labelled file to score.", required=True)


def main() -> None:
    """Learns from the training files, scores the test file, and prints JSON."""
    if not FLAGS.train:
        raise ConfigError("--train is missing. Give the labelled file to learn from.")
    run = run_from_flags()

    from sklearn.metrics import accuracy_score, f1_score

    from kerasllm.data import read_labelled

    parts = [read_labelled(path, run.data) for path in FLAGS.train]
    test = read_labelled(FLAGS.test, run.data)
    scores = {}
    for head in run.data.label_heads():
        known = [part.take([row for row, label in enumerate(part.labels[head]) if label >= 0]) for part in parts]
        texts = [text for part in known for text in part.texts]
        rows = test.take([row for row, label in enumerate(test.labels[head]) if label >= 0])
        if not texts or not len(rows):
            continue
        found = naive_bayes.predict(texts, [label for part in known for label in part.labels[head]], rows.texts)
        scores[head] = {
            "accuracy": accuracy_score(rows.labels[head], found),
            "macro_f1": f1_score(rows.labels[head], found, average="macro"),
            "rows": len(found),
        }
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    define_flags()
    run_program(main)
