"""Fine-tunes the sentiment classifier; the same --workdir continues where it stopped.

python -m apps.financial_sentiment.train --config configs/financial_sentiment/tiny.yaml --data data/sentiment \
    --init_from runs/bert_tiny --workdir runs/sentiment
"""

import json
from pathlib import Path

from absl import flags

from apps.flags import define_machine_flags, define_run_flags, profile_steps, run_from_flags, run_program

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from, where to, and how much of the machine."""
    define_run_flags()
    define_machine_flags()
    flags.DEFINE_string("data", None, "Folder with train.tsv and validation.tsv (see prepare).", required=True)
    flags.DEFINE_string("init_from", None, "Pretraining workdir or Hugging Face folder; without it, random weights.")
    flags.DEFINE_string("tokenizer", None, "Folder of the vocabulary, for a start from random weights.")
    flags.DEFINE_string("workdir", None, "Folder of the run: run.yaml, checkpoints, TensorBoard.", required=True)


def main() -> None:
    """Reads the labelled texts, trains, and prints the scores on the validation part as JSON."""
    run = run_from_flags()

    from apps.financial_sentiment import task
    from kerasllm import data, training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    run, tokenizer = task.starting_point(run, FLAGS.init_from, FLAGS.tokenizer)
    train = data.read_labelled(Path(FLAGS.data) / "train.tsv", run.data)
    validation = data.read_labelled(Path(FLAGS.data) / "validation.tsv", run.data)
    actions = [
        training.TensorBoard(make_images=task.confusion_image(validation, run, tokenizer)),
        training.EmbeddingProjector(tokenizer.words, lambda model: model.backbone.word_table),
        *profile_steps(),
    ]
    results = task.fine_tune(
        run, tokenizer, (train, validation), FLAGS.workdir, FLAGS.init_from, FLAGS.num_devices, actions
    )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    define_flags()
    run_program(main)
