"""What do the intent benchmarks share? Fine-tuning over seeds, naive Bayes beside it, one table."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import define_machine_flags
from kerasllm.config import Run, load_run, part_of
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.data import LabelledTexts

FLAGS = flags.FLAGS
CONFIG = Path("configs/customer_service/base.yaml")


def define_flags(settings: list[str]) -> None:
    """Says where from, where to, and with which settings on top of those of the data set."""
    define_machine_flags()
    flags.DEFINE_string("data", None, "Folder of the data set.", required=True)
    flags.DEFINE_string("init_from", None, "Pretraining workdir or Hugging Face folder of the encoder.", required=True)
    flags.DEFINE_string("workdir", None, "Folder for the runs; a finished one is read, not computed.", required=True)
    flags.DEFINE_multi_integer("seed", [1, 2, 3], "Seeds of the fine-tuning; may be repeated.")
    flags.DEFINE_multi_string("set", [], f"Override of parts.intent of {CONFIG}, after {' '.join(settings)}.")
    flags.DEFINE_enum("part", "test", ["test", "validation"], "Questions that are judged; validation: for settings.")
    flags.DEFINE_string("output", None, "JSON file of the table.")


def intent_run(table: Path, settings: list[str]) -> Run:
    """The run of the configuration's part `intent` with these settings and --set, and the labels of the table."""
    from apps.text_classification import with_labels_of

    overrides = [f"parts.intent.{setting}" for setting in (*settings, *FLAGS.set)]
    return with_labels_of(part_of(load_run(CONFIG, overrides), "intent"), table)


def run_table(parts: dict[str, "LabelledTexts"], run: Run) -> None:
    """Fine-tunes with every seed, prints the figures beside naive Bayes, and writes them as JSON.

    Args:
      parts: train, validation and test texts.
      run: of the classifier.
    """
    from kerasllm import training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    rows: dict[str, Any] = {"naive Bayes": {"accuracy": naive_bayes_accuracy(parts)}}
    for seed in FLAGS.seed:
        rows[f"ours, seed {seed}"] = fine_tuned(parts, run.model_copy(update={"seed": seed}))
    ours = [row["accuracy"] for name, row in rows.items() if name != "naive Bayes"]
    columns = sorted({column for row in rows.values() for column in row})
    print(f"{'':<16}" + "".join(f"{column:>24}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<16}" + "".join(f"{row[column]:>24.4f}" if column in row else " " * 24 for column in columns))
    print(f"mean accuracy of {len(ours)} seeds: {sum(ours) / len(ours):.4f} on {len(parts[FLAGS.part]):,} texts")
    if FLAGS.output:
        try:
            Path(FLAGS.output).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--output {FLAGS.output}: cannot be written ({error.strerror}).") from None


def fine_tuned(parts: dict[str, "LabelledTexts"], run: Run) -> dict[str, float]:
    """Figures of one seed on --part; a finished run is loaded instead."""
    from kerasllm import evaluation, fine_tuning, training
    from kerasllm.trained import DECISIONS_FILE, load, score

    workdir, begin = Path(FLAGS.workdir) / f"seed{run.seed}", time.time()
    if not (workdir / DECISIONS_FILE).exists():
        run, tokenizer = fine_tuning.starting_point(run, FLAGS.init_from, None)
        fine_tuning.fine_tune(
            run,
            tokenizer,
            (parts["train"], parts["validation"]),
            workdir,
            FLAGS.init_from,
            training.make_strategy(run.train.strategy, FLAGS.num_devices),
        )
    seconds, trained, judged = time.time() - begin, load(workdir), parts[FLAGS.part]
    figures = evaluation.judge(trained, judged, score(trained, judged.texts))["label"]
    row = {
        "accuracy": figures["accuracy"],
        "macro_f1": figures["macro_f1"],
        "calibration_before": figures["calibration"]["error_before"],
        "calibration": figures["calibration"]["error_after"],
        "calibration_by_chance": figures["calibration"]["error_by_chance"],
        "conformal_coverage": figures["conformal"]["coverage"],
        "training_minutes": seconds / 60,
    }
    if "out_of_scope" in figures:
        row["out_of_scope_recall"] = figures["out_of_scope"]["recall"]
        row["in_scope_rejected"] = figures["out_of_scope"]["in_scope_rejected"]
    return row


def naive_bayes_accuracy(parts: dict[str, "LabelledTexts"]) -> float:
    """Accuracy on the texts in scope of --part, learned from training and validation texts in scope."""
    from benchmarks.baselines import naive_bayes

    learned = ("train", "validation") if FLAGS.part == "test" else ("train",)
    known = [part.take([i for i, label in enumerate(part.labels["label"]) if label >= 0]) for part in parts.values()]
    in_scope = dict(zip(parts, known, strict=True))
    texts = [text for part in learned for text in in_scope[part].texts]
    labels = [label for part in learned for label in in_scope[part].labels["label"]]
    found = naive_bayes.predict(texts, labels, in_scope[FLAGS.part].texts)
    truth = in_scope[FLAGS.part].labels["label"]
    return sum(one == other for one, other in zip(found, truth, strict=True)) / len(truth)
