"""How well are 150 intents told apart, and questions out of scope told from them? Naive Bayes beside it.

    python -m benchmarks.intent_clinc150 --data DIR/clinc150 --init_from "$(scripts/get_minilm)" --workdir runs/clinc150

The classifier learns the 150 intents only. From which score on a question is out of scope is chosen on the validation
part, so that at most decisions.rejected_share (5 %) of the questions in scope are rejected there; accuracy is of the
test questions in scope without rejection.
"""

from pathlib import Path

from absl import flags

from apps.flags import run_program
from benchmarks import intents

FLAGS = flags.FLAGS
SETTINGS = ["data.label_column=intent", "data.out_of_scope_label=oos", "train.epochs=4"]


def main() -> None:
    """Reads the three parts as given, trains, and prints the table."""
    run = intents.intent_run(Path(FLAGS.data) / "train.tsv", SETTINGS)

    from kerasllm import data

    files = {"train": "train.tsv", "validation": "val.tsv", "test": "test.tsv"}
    parts = {part: data.read_labelled(Path(FLAGS.data) / file, run.data) for part, file in files.items()}
    inside = [row for row, label in enumerate(parts["train"].labels["label"]) if label >= 0]
    intents.run_table({**parts, "train": parts["train"].take(inside)}, run)


if __name__ == "__main__":
    intents.define_flags(SETTINGS)
    run_program(main)
