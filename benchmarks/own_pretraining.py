r"""What does an own pretraining give to a classifier? Random weights on the same backbone and vocabulary beside it.

    python -m benchmarks.own_pretraining --config configs/financial_sentiment/zh_titles.yaml \
        --train zh_fin_news_sentiment=DIR/seed_titles.tsv \
        --test zh_fin_news_sentiment=DIR/test.tsv --init_from runs/bert_small --workdir runs/titles
    python -m benchmarks.own_pretraining --config configs/customer_service/afqmc.yaml \
        --train DIR/train.tsv --test DIR/dev.tsv --init_from runs/bert_small --workdir runs/afqmc

The most frequent label and, for single texts, naive Bayes are the baselines. A share of the training rows, by a hash of
the text, is the validation part, which fits the decisions; nothing is chosen on the test file. F1 is that of the last
label, `positive` or "the same".
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import define_machine_flags, run_program
from kerasllm.config import Run, load_run

if TYPE_CHECKING:
    import numpy as np

    from kerasllm.data import LabelledTexts

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from and where to."""
    define_machine_flags()
    flags.DEFINE_string("config", None, "YAML file of the fine-tuning.", required=True)
    flags.DEFINE_multi_string("set", [], "Override of one setting, section.key=value; may be repeated.")
    flags.DEFINE_string("train", None, "[FORMAT=]FILE of labelled texts, or of pairs.", required=True)
    flags.DEFINE_string("test", None, "[FORMAT=]FILE that is judged.", required=True)
    flags.DEFINE_string("init_from", None, "Workdir of the pretraining.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the runs; a finished one is read, not computed.", required=True)
    flags.DEFINE_string("output", None, "JSON file of the table.")
    flags.DEFINE_integer("seed", 1, "Of training.")


def main() -> None:
    """Trains what is not trained, prints the table, and writes it as JSON."""
    import numpy as np

    from kerasllm import training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    run = load_run(FLAGS.config, [*FLAGS.set, f"seed={FLAGS.seed}"])
    train, test = read(FLAGS.train, run), read(FLAGS.test, run)
    parts, truth = split(train, run), np.array(test.labels["label"])
    table = {"majority": scores(truth, np.full_like(truth, np.bincount(train.labels["label"]).argmax()), run)}
    if train.second is None:
        table["naive Bayes"] = scores(truth, naive_bayes(train, test), run)
    table["random weights"] = tuned(parts, test, run, None)
    table["own pretraining"] = tuned(parts, test, run, FLAGS.init_from)
    columns = ("accuracy", "f1", "calibration", "calibration_by_chance", "coverage")
    print(f"{len(test):,} rows{'':<11}" + "".join(f"{column:>23}" for column in columns))
    for name, row in table.items():
        print(f"{name:<20}" + "".join(f"{row[one]:>23.4f}" if one in row else f"{'':>23}" for one in columns))
    if FLAGS.output:
        Path(FLAGS.output).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def read(spec: str, run: Run) -> "LabelledTexts":
    """Texts of a public form, or of a file with the columns that the configuration names (pairs too)."""
    from kerasllm.data import LabelledTexts, read_labelled
    from kerasllm.data.formats import read_format

    if "=" not in spec:
        return read_labelled(spec, run.data)
    rows = read_format(spec, run.data)
    labels = [run.data.labels.index(row.labels[run.data.label_column]) for row in rows]
    return LabelledTexts([row.text for row in rows], {"label": labels}, list(range(2, len(rows) + 2)))


def split(examples: "LabelledTexts", run: Run) -> tuple["LabelledTexts", "LabelledTexts"]:
    """Training and validation rows."""
    from kerasllm.data import split_by_text

    second = examples.second or [""] * len(examples)
    shares = {"validation": run.data.validation_share}
    dealt = split_by_text(range(len(examples)), lambda row: f"{examples.texts[row]} {second[row]}", shares)
    return examples.take(dealt["train"]), examples.take(dealt["validation"])


def naive_bayes(train: "LabelledTexts", test: "LabelledTexts") -> "np.ndarray":
    """Labels by the baseline, which needs no validation part and learns from it too."""
    import numpy as np

    from benchmarks.baselines import naive_bayes as baseline

    return np.array(baseline.predict(train.texts, train.labels["label"], test.texts))


def tuned(
    parts: tuple["LabelledTexts", "LabelledTexts"], test: "LabelledTexts", run: Run, init_from: str | None
) -> dict[str, Any]:
    """Figures of a classifier that starts from the pretraining, or from random weights."""
    import numpy as np

    from benchmarks.rank_table import refuse_stopped
    from kerasllm import training
    from kerasllm.evaluation import judge
    from kerasllm.fine_tuning import fine_tune, starting_point
    from kerasllm.trained import load, score

    workdir = Path(FLAGS.workdir) / f"{'pretrained' if init_from else 'random'}-seed{run.seed}"
    started, tokenizer = starting_point(run, FLAGS.init_from, None)
    strategy = training.make_strategy(run.train.strategy, FLAGS.num_devices)
    results = fine_tune(started, tokenizer, parts, workdir, init_from, strategy)
    refuse_stopped(results, workdir)
    trained = load(workdir)
    logits = score(trained, test.texts, test.second)
    figures = judge(trained, test, logits)["label"]
    return {
        **scores(np.array(test.labels["label"]), logits["label"].argmax(axis=-1), run),
        "calibration": figures["calibration"]["error_after"],
        "calibration_by_chance": figures["calibration"]["error_by_chance"],
        "coverage": figures["conformal"]["coverage"],
    }


def scores(truth: "np.ndarray", found: "np.ndarray", run: Run) -> dict[str, float]:
    """Accuracy, and the F1 of the last label."""
    from kerasllm import metrics

    labels = list(run.data.labels)
    report = metrics.classification_report(metrics.confusion_matrix(truth, found, len(labels)), labels)
    return {"accuracy": report["accuracy"], "f1": report["per_class"][labels[-1]]["f1"]}


if __name__ == "__main__":
    define_flags()
    run_program(main)
