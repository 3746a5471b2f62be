"""Trains a recommender on what `prepare` wrote; the same --workdir continues where it stopped.

python -m apps.recommendation.train --config configs/recommendation/base.yaml --data data/films \
    --init_from runs/bert_small --workdir runs/films
"""

import json
from pathlib import Path

from absl import flags

from apps.flags import (
    define_machine_flags,
    define_profile_flag,
    define_run_flags,
    profile_steps,
    run_from_flags,
    run_program,
)
from kerasllm.errors import ConfigError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from, where to, and how much of the machine."""
    define_run_flags()
    define_machine_flags()
    define_profile_flag()
    flags.DEFINE_string("data", None, "Folder that prepare wrote.", required=True)
    flags.DEFINE_string("init_from", None, "Text encoder of the items: a training workdir or Hugging Face folder.")
    flags.DEFINE_string("tokenizer", None, "Folder of the vocabulary, for a text encoder of random weights.")
    flags.DEFINE_string("workdir", None, "Folder of the run: run.yaml, checkpoints, catalogue.", required=True)


def main() -> None:
    """Embeds the items, trains, and prints the scores on the validation part as JSON."""
    run = run_from_flags()
    if run.objective.task != "recommendation":
        raise ConfigError(f"objective.task={run.objective.task!r}: this program trains 'recommendation'.")

    from kerasllm import recommending, training
    from kerasllm.data import interactions

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    folder = Path(FLAGS.data)
    catalogue = interactions.read_catalogue(folder / "items.jsonl")
    parts = {name: interactions.read_events(folder / f"{name}.tsv", catalogue) for name in ("train", "validation")}
    encoder = recommending.make_encoder(run, FLAGS.init_from, FLAGS.tokenizer)
    actions = [training.TensorBoard(), *profile_steps()]
    results = recommending.fit(run, catalogue, parts, encoder, FLAGS.workdir, FLAGS.num_devices, actions)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    define_flags()
    run_program(main)
