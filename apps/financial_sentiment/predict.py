"""Scores a file of texts in bulk: each row comes out with its label and probabilities, in the same order.

python -m apps.financial_sentiment.predict --workdir runs/sentiment --input news.txt --output scored.tsv
"""

from pathlib import Path

from absl import flags

from apps.flags import run_program
from kerasllm.config import load_run
from kerasllm.errors import DataError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says what is scored, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string(
        "input", None, "Texts: .txt (one a line), or .tsv, .csv, .jsonl with a text column.", required=True
    )
    flags.DEFINE_string("output", None, "File to write: text, label, and one probability per label.", required=True)
    flags.DEFINE_multi_string("set", [], "Override of a data setting, such as data.text_column=sentence.")


def main() -> None:
    """Reads, scores and writes; the output appears when it is whole."""
    settings = load_run(Path(FLAGS.workdir) / "run.yaml", FLAGS.set).data

    from kerasllm import data
    from kerasllm.trained import classify, load

    trained = load(FLAGS.workdir)
    texts = data.read_texts(FLAGS.input, settings)
    output = Path(FLAGS.output)
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
            print("text", "label", *trained.run.data.labels, sep="\t", file=file)
            for text, row in zip(texts, classify(trained, texts), strict=True):
                label = trained.run.data.labels[row.argmax()]
                print(" ".join(text.split()), label, *(f"{share:.6f}" for share in row), sep="\t", file=file)
        unfinished.replace(output)
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{len(texts):,} rows -> {output}")


if __name__ == "__main__":
    define_flags()
    run_program(main)
