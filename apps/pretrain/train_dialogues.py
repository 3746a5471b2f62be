"""Tunes a pretrained GPT on dialogues, so that it answers; the same --workdir continues where it stopped.

python -m apps.pretrain.train_dialogues --config configs/pretrain/dialogue.yaml --input chats.jsonl \
    --init_from runs/gpt_small --workdir runs/dialogue
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import (
    define_machine_flags,
    define_profile_flag,
    define_run_flags,
    define_worker_flags,
    profile_steps,
    run_from_flags,
    run_program,
    strategy_from_flags,
)
from kerasllm.config import Data
from kerasllm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kerasllm.data import Dialogue

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from, where to, and how much of the machine."""
    define_run_flags()
    define_machine_flags()
    define_profile_flag()
    define_worker_flags()
    flags.DEFINE_multi_string("input", [], "File of dialogues, .jsonl, one a line; may be repeated.")
    flags.DEFINE_multi_string("validation_input", [], "The same; these are the validation part as they are.")
    flags.DEFINE_bool("mask", True, "Mask e-mail addresses, phone, card and identity numbers: a GPT repeats them.")
    flags.DEFINE_string("init_from", None, "Workdir of apps.pretrain.train; without it the weights are random.")
    flags.DEFINE_string("tokenizer", None, "Folder of the vocabulary, where the weights are random.")
    flags.DEFINE_string("workdir", None, "Folder of the run: run.yaml, checkpoints, TensorBoard.", required=True)


def main() -> None:
    """Reads the dialogues, trains, and prints the scores on the validation part as JSON."""
    run = run_from_flags()
    if run.objective.task != "dialogue":
        raise ConfigError(f"objective.task={run.objective.task!r}: this program trains dialogue. Give its --config.")
    if not FLAGS.input:
        raise ConfigError("--input is missing. Give a .jsonl of dialogues.")

    from kerasllm import fine_tuning, training

    strategy = strategy_from_flags(run)  # before the first tensor: workers find each other only then
    run, tokenizer = fine_tuning.starting_point(run, FLAGS.init_from, FLAGS.tokenizer)
    given = read(FLAGS.input), read(FLAGS.validation_input)
    parts = split(*given, run.data)
    print(f"{len(parts[0]):,} dialogues to learn from, {len(parts[1]):,} to be judged by")
    actions = [training.TensorBoard(), *profile_steps()]
    results = fine_tuning.tune_on_dialogues(run, tokenizer, parts, FLAGS.workdir, FLAGS.init_from, strategy, actions)
    print(json.dumps(results, indent=2))


def read(paths: Sequence[str]) -> list["Dialogue"]:
    """The dialogues of all files; with --mask without personal data.

    Raises:
      DataError: as kerasllm.data.read_dialogues does.
    """
    import dataclasses

    from kerasllm.data import read_dialogues
    from kerasllm.text.privacy import mask_personal_data

    dialogues = [dialogue for path in paths for dialogue in read_dialogues(Path(path))]
    if not FLAGS.mask:
        return dialogues
    return [
        dataclasses.replace(
            dialogue,
            turns=tuple(dataclasses.replace(turn, text=mask_personal_data(turn.text)) for turn in dialogue.turns),
        )
        for dialogue in dialogues
    ]


def split(
    given: Sequence["Dialogue"], validation: Sequence["Dialogue"], settings: Data
) -> tuple[list["Dialogue"], list["Dialogue"]]:
    """Training and validation dialogues, dealt by a hash of their text where no validation part is given.

    Raises:
      DataError: one of the two is empty.
    """
    from kerasllm.data import split_by_text

    shares = {} if validation else {"validation": settings.validation_share}
    dealt = split_by_text(given, _text, shares, [_text(dialogue) for dialogue in validation])
    parts = dealt["train"], list(validation) or dealt.get("validation", [])
    if not all(parts):
        raise DataError(
            f"{len(parts[0])} dialogues to learn from and {len(parts[1])} to be judged by: there have to be both. Give "
            "more of them, change data.validation_share, or give --validation_input."
        )
    return parts


def _text(dialogue: "Dialogue") -> str:
    return "\n".join(turn.text for turn in dialogue.turns)


if __name__ == "__main__":
    define_flags()
    run_program(main)
