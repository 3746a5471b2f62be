"""Trains the assistant's models: intent, matching, re-ranking; the same --workdir continues where it stopped.

python -m apps.customer_service.train --config configs/customer_service/tiny.yaml --data data/support \
    --workdir runs/support
"""

import json
from pathlib import Path

from absl import flags

from apps.flags import define_machine_flags, define_run_flags, run_from_flags, run_program

FLAGS = flags.FLAGS
PARTS = ("intent", "matching", "reranking")


def define_flags() -> None:
    """Says what is trained, where from, where to, and how much of the machine."""
    define_run_flags()
    define_machine_flags()
    flags.DEFINE_string("data", None, "Folder that prepare wrote.", required=True)
    flags.DEFINE_multi_enum("part", None, PARTS, "Model to train; may be repeated. Default: all that `parts` names.")
    flags.DEFINE_string("init_from", None, "Pretraining workdir or Hugging Face folder; without it, random weights.")
    flags.DEFINE_string("tokenizer", None, "Folder of a vocabulary; without it, and without --init_from, one is made.")
    flags.DEFINE_string(
        "workdir", None, "Folder of the assistant: one workdir for each model, and data/.", required=True
    )


def main() -> None:
    """Trains one model after another, and prints their results as JSON."""
    run = run_from_flags()
    wanted = FLAGS.part or [part for part in PARTS if part in run.parts] or list(PARTS)

    from apps.customer_service import task
    from kerasllm import training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    workdir = Path(FLAGS.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    start = task.Start(FLAGS.init_from, FLAGS.tokenizer, FLAGS.num_devices)
    results = {part: task.train_part(part, run, Path(FLAGS.data), workdir, start) for part in wanted}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    define_flags()
    run_program(main)
