"""Scores a fine-tuned classifier on a labelled file: metrics, confusion matrix, and the rows it gets wrong.

python -m apps.financial_sentiment.evaluate --workdir runs/sentiment --data test.tsv --output metrics.json
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import run_program
from kerasllm.config import load_run
from kerasllm.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from kerasllm.data import LabelledTexts

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says what is scored, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("data", None, "Labelled file: .tsv, .csv or .jsonl.", required=True)
    flags.DEFINE_string("output", None, "JSON of the metrics; pictures and rows are written beside it.", required=True)
    flags.DEFINE_multi_string("set", [], "Override of a data setting, such as data.text_column=sentence.")


def main() -> None:
    """Predicts, prints the metrics, and writes them, the picture and the misclassified rows."""
    settings = load_run(Path(FLAGS.workdir) / "run.yaml", FLAGS.set).data

    from kerasllm import data, metrics, training
    from kerasllm.trained import classify, load

    trained = load(FLAGS.workdir)
    examples = data.read_labelled(FLAGS.data, settings)
    probabilities = classify(trained, examples.texts)
    counts = metrics.confusion_matrix(examples.labels, probabilities.argmax(axis=-1), len(settings.labels))
    scores = {"data": Path(FLAGS.data).name, **metrics.classification_report(counts, settings.labels)}
    output = Path(FLAGS.output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        (output.parent / "confusion_matrix.png").write_bytes(training.confusion_picture(counts, settings.labels))
        (output.parent / "misclassified.tsv").write_text(
            misclassified(examples, probabilities, settings.labels), encoding="utf-8"
        )
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None
    print(report(scores))


def misclassified(examples: "LabelledTexts", probabilities: "np.ndarray", labels: tuple[str, ...]) -> str:
    """The wrong rows as .tsv, the surest mistakes first."""
    predicted = probabilities.argmax(axis=-1)
    wrong = [index for index, label in enumerate(examples.labels) if predicted[index] != label]
    wrong.sort(key=lambda index: -float(probabilities[index].max()))
    lines = ["row\ttext\tlabel\tpredicted\tprobability"]
    for index in wrong:
        lines.append(
            f"{examples.rows[index]}\t{examples.texts[index]}\t{labels[examples.labels[index]]}\t"
            f"{labels[predicted[index]]}\t{probabilities[index].max():.4f}"
        )
    return "\n".join(lines) + "\n"


def report(scores: dict[str, Any]) -> str:
    """The metrics as an aligned table."""
    lines = [f"{scores['data']}: {scores['num_examples']:,} rows"]
    lines += [f"{name:<12}{scores[name]:>10.4f}" for name in ("accuracy", "macro_f1")]
    columns = ("precision", "recall", "f1")
    lines.append(f"{'label':<12}" + "".join(f"{column:>10}" for column in columns) + f"{'rows':>8}")
    for label, one in scores["per_class"].items():
        lines.append(f"{label:<12}" + "".join(f"{one[column]:>10.4f}" for column in columns) + f"{one['support']:>8,}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    run_program(main)
