"""Labelled files in, one folder out: train.tsv, validation.tsv and test.tsv without a text in two of them.

python -m apps.financial_sentiment.prepare --input financial_phrasebank=phrasebank.tsv --output data/sentiment
"""

import collections
import os
import shutil
from pathlib import Path

from absl import flags

from apps.financial_sentiment.formats import Row, read
from apps.flags import define_run_flags, run_from_flags, run_program
from kerasllm.config import Data
from kerasllm.errors import ConfigError, DataError

FLAGS = flags.FLAGS
SPLITS = ("train", "validation", "test")


def define_flags() -> None:
    """Says where from and where to."""
    define_run_flags()
    flags.DEFINE_multi_string("input", [], "[FORMAT=]FILE of labelled texts, split by shares; may be repeated.")
    flags.DEFINE_multi_string("test_input", [], "[FORMAT=]FILE that is the test part as it is; may be repeated.")
    flags.DEFINE_string("output", None, "Folder to make.", required=True)


def main() -> None:
    """Reads, checks, splits and writes, and prints what there is of each label."""
    settings = run_from_flags().data
    if not FLAGS.input:
        raise ConfigError("--input is missing. Give [FORMAT=]FILE, for example financial_phrasebank=phrasebank.tsv.")
    output = Path(FLAGS.output)
    if output.exists():
        raise DataError(f"{output}: exists already. Remove it or give another --output.")
    splits = split(
        [row for spec in FLAGS.input for row in read(spec)],
        [row for spec in FLAGS.test_input for row in read(spec)],
        settings,
    )
    for name, rows in splits.items():
        check_labels(rows, settings.labels, f"the {name} part")
    write(splits, output)
    for name in SPLITS:
        counts = collections.Counter(row.label for row in splits[name])
        print(f"{name:<11}{len(splits[name]):>8,}  " + "  ".join(f"{k} {n:,}" for k, n in sorted(counts.items())))


def split(rows: list[Row], test: list[Row], settings: Data) -> dict[str, list[Row]]:
    """Deals rows to train, validation and test by a hash of their text, so that equal texts stay together.

    A text that stands in `test` too is left out of the other parts; of equal texts the first is kept.
    """
    from kerasllm.data import split_by_text

    shares = {"test": 0.0 if test else settings.test_share, "validation": settings.validation_share}
    parts = split_by_text(rows, lambda row: row.text, shares, without=[row.text for row in test])
    return {"train": parts["train"], "validation": parts["validation"], "test": parts["test"] + test}


def check_labels(rows: list[Row], labels: tuple[str, ...], place: str) -> None:
    """Raises DataError for a label that the configuration does not know, and for a part with no rows."""
    if not rows:
        raise DataError(
            f"{place} has no rows. Give more data or other shares (data.validation_share, data.test_share)."
        )
    for row in rows:
        if labels and row.label not in labels:
            raise DataError(
                f"{row.source}: label {row.label!r} of {row.text[:40]!r} is not in data.labels ({', '.join(labels)}). "
                "Add it there, or mend the row."
            )


def write(splits: dict[str, list[Row]], output: Path) -> None:
    """Writes the parts under a temporary name and renames the folder once it is whole."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, rows in splits.items():
            lines = [
                "text\tlabel\tsource",
                *(f"{' '.join(row.text.split())}\t{row.label}\t{row.source}" for row in rows),
            ]
            (temporary / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.rename(output)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None


if __name__ == "__main__":
    define_flags()
    run_program(main)
