"""Do two Chinese questions ask the same? Own pretraining, random weights and the majority on afqmc.

    python -m benchmarks.afqmc --data DIR/afqmc --init_from runs/bert_zh --workdir runs/afqmc

The given development part is the test part; a share of the training pairs, by a hash of both texts, chooses the
checkpoint. Random weights stand on the same backbone and vocabulary as the pretraining. F1 is that of "the same".
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

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
    flags.DEFINE_string("config", "configs/customer_service/afqmc.yaml", "YAML file of the fine-tuning.")
    flags.DEFINE_multi_string("set", [], "Override of one setting, section.key=value; may be repeated.")
    flags.DEFINE_string("data", None, "Folder with train.tsv and dev.tsv.", required=True)
    flags.DEFINE_string("init_from", None, "Workdir of a Chinese pretraining.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the runs; a finished one is read, not computed.", required=True)
    flags.DEFINE_string("output", None, "JSON file of the table.")
    flags.DEFINE_integer("seed", 1, "Of training.")


def main() -> None:
    """Trains what is not trained, prints the table, and writes it as JSON."""
    import numpy as np

    from kerasllm import data, training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    run = load_run(FLAGS.config, [*FLAGS.set, f"seed={FLAGS.seed}"])
    train, validation = split(data.read_labelled(Path(FLAGS.data) / "train.tsv", run.data), run)
    test = data.read_labelled(Path(FLAGS.data) / "dev.tsv", run.data)
    truth, majority = np.array(test.labels["label"]), np.bincount(train.labels["label"]).argmax()
    table = {
        "majority": scores(truth, np.full_like(truth, majority)),
        "random weights": scores(truth, predicted((train, validation), test, run, None)),
        "own pretraining": scores(truth, predicted((train, validation), test, run, FLAGS.init_from)),
    }
    print(f"{'start':<18}{'accuracy':>10}{'F1':>8}{'rows':>8}")
    for name, row in table.items():
        print(f"{name:<18}{row['accuracy']:>10.4f}{row['f1']:>8.4f}{row['rows']:>8.0f}")
    if FLAGS.output:
        Path(FLAGS.output).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def split(pairs: "LabelledTexts", run: Run) -> tuple["LabelledTexts", "LabelledTexts"]:
    """Training and validation pairs."""
    from kerasllm.data import split_by_text

    assert pairs.second is not None
    second = pairs.second
    shares = {"validation": run.data.validation_share}
    dealt = split_by_text(range(len(pairs)), lambda row: f"{pairs.texts[row]} {second[row]}", shares)
    return pairs.take(dealt["train"]), pairs.take(dealt["validation"])


def predicted(
    parts: tuple["LabelledTexts", "LabelledTexts"], test: "LabelledTexts", run: Run, init_from: str | None
) -> "np.ndarray":
    """Labels of the test pairs by a classifier that starts from the pretraining, or from random weights."""
    from benchmarks.rank_table import refuse_stopped
    from kerasllm import training
    from kerasllm.fine_tuning import fine_tune, starting_point
    from kerasllm.trained import load, score

    workdir = Path(FLAGS.workdir) / f"{'pretrained' if init_from else 'random'}-seed{run.seed}"
    run, tokenizer = starting_point(run, FLAGS.init_from, None)
    strategy = training.make_strategy(run.train.strategy, FLAGS.num_devices)
    results = fine_tune(run, tokenizer, parts, workdir, init_from, strategy)
    refuse_stopped(results, workdir)
    return score(load(workdir), test.texts, test.second)["label"].argmax(axis=-1)


def scores(truth: "np.ndarray", found: "np.ndarray") -> dict[str, float]:
    """Accuracy and the F1 of label 1."""
    from kerasllm import metrics

    report = metrics.classification_report(metrics.confusion_matrix(truth, found, 2), ["0", "1"])
    return {"accuracy": report["accuracy"], "f1": report["per_class"]["1"]["f1"], "rows": len(truth)}


if __name__ == "__main__":
    define_flags()
    run_program(main)
