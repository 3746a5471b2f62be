r"""How well are the 77 intents of a bank's customers told apart? Three seeds, naive Bayes beside them.

    python -m benchmarks.intent_banking77 --data DIR/banking77 --init_from "$(scripts/get_minilm)" \
        --workdir runs/banking77

A tenth of the training texts, by a hash of the text, is the validation part; the test part is as given.
"""

from pathlib import Path

from absl import flags

from apps.flags import run_program
from benchmarks import intents

FLAGS = flags.FLAGS
SETTINGS = [
    "data.label_column=category",
    "train.epochs=8",
    "optimizer.unfreeze_share=0.25",
    "optimizer.frozen=[embedding/word_table]",
]


def main() -> None:
    """Splits, trains, and prints the table."""
    run = intents.intent_run(Path(FLAGS.data) / "train.tsv", SETTINGS)

    from kerasllm import data

    table = data.read_labelled(Path(FLAGS.data) / "train.tsv", run.data)
    shares = {"validation": run.data.validation_share}
    dealt = data.split_by_text(range(len(table)), lambda row: table.texts[row], shares)
    parts = {part: table.take(rows) for part, rows in dealt.items()}
    intents.run_table({**parts, "test": data.read_labelled(Path(FLAGS.data) / "test.tsv", run.data)}, run)


if __name__ == "__main__":
    intents.define_flags(SETTINGS)
    run_program(main)
