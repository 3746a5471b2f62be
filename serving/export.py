"""How does a fine-tuned workdir become a model that servers pick up?

python -m serving.export --workdir runs/sentiment --base_path exports --name sentiment
"""

import json
from pathlib import Path

from absl import flags

from apps.flags import run_program
from kerasllm.config import Run, load_run
from kerasllm.errors import ConfigError, ExportError

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the fine-tuning run: run.yaml, tokenizer/, checkpoints/.")
flags.DEFINE_string("base_path", "exports", "Folder of all exported models.")
flags.DEFINE_string("name", None, "Name of the model; its versions stand in BASE_PATH/NAME/.")
flags.DEFINE_enum("checkpoint", "best", ["best", "newest"], "Which checkpoint: lowest held-out loss, or the last one.")
flags.mark_flags_as_required(["workdir", "name"])


def export() -> Path:
    """Writes the next version of the model and returns its folder.

    Raises:
      ConfigError, CheckpointError, DataError: the workdir is not whole.
      ExportError: the model is none that can be exported, or a check failed.
    """
    workdir = Path(FLAGS.workdir)
    run = _read_run(workdir)
    from kerasllm import models
    from kerasllm.export import write_classifier
    from kerasllm.text import load_tokenizer
    from kerasllm.training import restore_weights

    tokenizer = load_tokenizer(workdir / "tokenizer")
    # Weights are float32 whatever a run computes in, and servers compute in what the weights are.
    model = models.from_run(_in_float32(run), tokenizer.vocab_size)
    step = restore_weights(model, workdir, which=FLAGS.checkpoint)
    folder = write_classifier(model, tokenizer, run, FLAGS.base_path, FLAGS.name, _metrics(workdir))
    print(f"Exported step {step} of {workdir} to {folder}")
    return folder


def _read_run(workdir: Path) -> Run:
    if not (workdir / "run.yaml").is_file():
        raise ConfigError(f"--workdir {workdir}: there is no run.yaml. Give the folder that a training program wrote.")
    run = load_run(workdir / "run.yaml")
    if run.objective.task != "text_classification":
        raise ExportError(
            f"--workdir {workdir} holds a run of {run.objective.task}; only text_classification can be exported. "
            "Fine-tune a classifier from it first."
        )
    return run


def _in_float32(run: Run) -> Run:
    return run.model_copy(update={"train": run.train.model_copy(update={"precision": "float32"})})


def _metrics(workdir: Path) -> dict[str, float]:
    """The numbers of the run's metrics.json, if there is one, to be noted in the export."""
    path = workdir / "metrics.json"
    if not path.is_file():
        return {}
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path}: not JSON ({error}). Evaluate again, or remove the file.") from None
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


if __name__ == "__main__":
    run_program(export)
