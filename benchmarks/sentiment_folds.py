"""How much does pretraining help sentiment? Five folds: MiniLM, own pretraining, random weights, naive Bayes.

    python -m benchmarks.sentiment_folds --data DIR/financial_phrasebank/phrasebank.tsv --minilm FOLDER \
        --tweets runs/tweets --pretrained runs/bert_small --workdir runs/folds

The second table tells what bounds the first: accuracy by the share of annotators that agreed on a sentence.
With `--agree 100` only the sentences that all annotators agree on count. Rows are dealt to folds by a hash of their
text, so equal texts share one. Of a fold's training rows a tenth, again by the hash, is the validation part that
fits the decisions; nothing is chosen on the test fold.
"""

import functools
import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import define_machine_flags, run_program
from kerasllm.config import Run, load_run

if TYPE_CHECKING:
    from kerasllm.data import LabelledTexts
    from kerasllm.data.formats import Row

FLAGS = flags.FLAGS
NUM_FOLDS = 5
AGREEMENTS = ["50", "66", "75", "100"]
CONFIGS = Path("configs/financial_sentiment")


def define_flags() -> None:
    """Says where from and where to."""
    define_machine_flags()
    flags.DEFINE_string("data", None, "phrasebank.tsv with columns sentence and label.", required=True)
    flags.DEFINE_string("minilm", None, "Folder that scripts/get_minilm printed; without it, left out.")
    flags.DEFINE_string("tweets", None, "Workdir of MiniLM tuned on twitter_fin_sentiment first; without it, left out.")
    flags.DEFINE_string("pretrained", None, "Workdir of apps.pretrain.train; without it, left out.")
    flags.DEFINE_string("workdir", None, "Folder for the runs; finished folds are not computed again.", required=True)
    flags.DEFINE_enum("agree", "50", AGREEMENTS, "Least share of annotators that agree, in percent.")
    flags.DEFINE_multi_string("set", [], "Override of a setting of both configurations, section.key=value.")
    flags.DEFINE_multi_integer("seed", [1], "Seeds of the fine-tuning; may be repeated.")


def main() -> None:
    """Trains every fold of every start, prints the table, and writes it as JSON."""
    from kerasllm import training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    minilm_run = load_run(CONFIGS / "minilm.yaml", FLAGS.set)
    own_run = load_run(CONFIGS / "small.yaml", FLAGS.set)
    examples = read_sentences(minilm_run)
    starts: dict[str, tuple[Run, str | None]] = {}
    if FLAGS.minilm:
        starts["from MiniLM"] = minilm_run, FLAGS.minilm
    if FLAGS.tweets:
        starts["MiniLM, then tweets"] = minilm_run, FLAGS.tweets
    if FLAGS.pretrained:
        starts["own pretraining"] = own_run, FLAGS.pretrained
        starts["random weights"] = own_run, None
    table: dict[str, Any] = {"naive Bayes": summarize([naive_bayes(examples, fold) for fold in range(NUM_FOLDS)])}
    for name, (run, init_from) in starts.items():
        folds = [
            fine_tuned(examples, fold, run.model_copy(update={"seed": seed}), init_from, name)
            for seed in FLAGS.seed
            for fold in range(NUM_FOLDS)
        ]
        table[name] = summarize(folds)
    Path(FLAGS.workdir).mkdir(parents=True, exist_ok=True)
    (Path(FLAGS.workdir) / f"folds-agree{FLAGS.agree}.json").write_text(
        json.dumps(table, indent=2) + "\n", encoding="utf-8"
    )
    columns = f"{'accuracy':>10}{'macro-F1':>10}{'lowest':>9}{'highest':>9}{'ECE':>8}{'covered':>9}"
    print(f"{'start':<20}{columns}   accuracy of the folds")
    for name, row in table.items():
        print(
            f"{name:<20}{row['accuracy']:>10.4f}{row['macro_f1']:>10.4f}"
            f"{min(row['folds']):>9.4f}{max(row['folds']):>9.4f}"
            f"{row.get('calibration_error', math.nan):>8.4f}{row.get('coverage', math.nan):>9.4f}   {row['folds']}"
        )
    print("\naccuracy where so many percent of the annotators agreed, and the number of sentences")
    for name, row in table.items():
        shares = (f"{level}: {right / count:.4f} of {count}" for level, (right, count) in row["by_agreement"].items())
        print(f"{name:<20}" + "   ".join(shares))


def read_rows(run: Run, agree: str) -> "list[Row]":
    """The rows that at least so many percent of the annotators agree on."""
    from kerasllm.data.formats import read_format

    return read_format(f"financial_phrasebank:{agree}={FLAGS.data}", run.data)


def read_sentences(run: Run) -> "LabelledTexts":
    """The sentences that enough annotators agree on."""
    from kerasllm.data import LabelledTexts

    rows = read_rows(run, FLAGS.agree)
    labels = [run.data.labels.index(row.labels[run.data.label_column]) for row in rows]
    return LabelledTexts([row.text for row in rows], {"label": labels}, list(range(2, len(rows) + 2)))


def fine_tuned(examples: "LabelledTexts", fold: int, run: Run, init_from: str | None, name: str) -> dict[str, Any]:
    """Scores of one fold; the folder of a finished one is read instead."""
    from kerasllm import evaluation, fine_tuning
    from kerasllm.trained import load, score

    workdir = (
        Path(FLAGS.workdir) / name.replace(" ", "_").replace(",", "") / f"agree{FLAGS.agree}-seed{run.seed}-fold{fold}"
    )
    scores_file = workdir / "test_scores.json"
    if not scores_file.exists():
        begin = time.time()
        train, validation, test = split(examples, fold)
        # Random weights stand on the same backbone and vocabulary as the own pretraining.
        run, tokenizer = fine_tuning.starting_point(run, init_from or FLAGS.pretrained, None)
        fine_tuning.fine_tune(run, tokenizer, (train, validation), workdir, init_from)
        trained = load(workdir)
        logits = score(trained, test.texts)
        report = evaluation.judge(trained, test, logits)["label"]
        report["by_agreement"] = by_agreement(test, logits["label"].argmax(axis=-1).tolist())
        report["seconds"] = time.time() - begin
        scores_file.write_text(json.dumps(report), encoding="utf-8")
        print(f"{name} seed {run.seed} fold {fold}: {report['accuracy']:.4f} {report['macro_f1']:.4f}", flush=True)
    scores: dict[str, Any] = json.loads(scores_file.read_text(encoding="utf-8"))
    return scores


def naive_bayes(examples: "LabelledTexts", fold: int) -> dict[str, Any]:
    """Scores of one fold for the baseline, which needs no validation part and learns from it too."""
    from benchmarks.baselines import naive_bayes as baseline
    from kerasllm import metrics

    train, validation, test = split(examples, fold)
    predicted = baseline.predict(
        train.texts + validation.texts, train.labels["label"] + validation.labels["label"], test.texts
    )
    counts = metrics.confusion_matrix(test.labels["label"], predicted, 1 + max(examples.labels["label"]))
    report = metrics.classification_report(counts, [str(label) for label in range(len(counts))])
    return {**report, "by_agreement": by_agreement(test, predicted)}


@functools.cache
def agreement_of_texts() -> dict[str, str]:
    """The highest share of annotators, in percent, of which it is known that they agree on a sentence."""
    run = load_run(CONFIGS / "minilm.yaml", FLAGS.set)
    return {row.text: agree for agree in AGREEMENTS for row in read_rows(run, agree)}


def by_agreement(test: "LabelledTexts", predicted: Sequence[int]) -> dict[str, list[int]]:
    """For each share of annotators that agreed, in percent: how many predictions are right, and of how many."""
    level_of = agreement_of_texts()
    counts = {agree: [0, 0] for agree in AGREEMENTS if int(agree) >= int(FLAGS.agree)}
    for text, label, guess in zip(test.texts, test.labels["label"], predicted, strict=True):
        counts[level_of[text]][0] += label == guess
        counts[level_of[text]][1] += 1
    return counts


def split(examples: "LabelledTexts", fold: int) -> tuple["LabelledTexts", "LabelledTexts", "LabelledTexts"]:
    """Train, validation and test part of a fold."""
    hashes = [int(hashlib.sha256(" ".join(text.split()).encode()).hexdigest(), 16) for text in examples.texts]
    is_test = [number % NUM_FOLDS == fold for number in hashes]
    is_validation = [number // NUM_FOLDS % 10 == 0 for number in hashes]
    places = range(len(hashes))
    return (
        examples.take([place for place in places if not is_test[place] and not is_validation[place]]),
        examples.take([place for place in places if not is_test[place] and is_validation[place]]),
        examples.take([place for place in places if is_test[place]]),
    )


def summarize(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the folds; of a fine-tuned model also of its calibration error and of its sets' coverage."""
    fitted = {}
    if "calibration" in folds[0]:
        fitted = {
            "calibration_error": sum(one["calibration"]["error_after"] for one in folds) / len(folds),
            "error_by_chance": sum(one["calibration"]["error_by_chance"] for one in folds) / len(folds),
            "error_before": sum(one["calibration"]["error_before"] for one in folds) / len(folds),
            "coverage": sum(one["conformal"]["coverage"] for one in folds) / len(folds),
            "seconds": round(sum(one["seconds"] for one in folds)),
        }
    levels = folds[0]["by_agreement"]
    return {
        **fitted,
        "by_agreement": {
            level: [sum(one["by_agreement"][level][place] for one in folds) for place in (0, 1)] for level in levels
        },
        "accuracy": sum(one["accuracy"] for one in folds) / len(folds),
        "macro_f1": sum(one["macro_f1"] for one in folds) / len(folds),
        "folds": [round(one["accuracy"], 4) for one in folds],
    }


if __name__ == "__main__":
    define_flags()
    run_program(main)
