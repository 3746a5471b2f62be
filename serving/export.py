"""How does a fine-tuned workdir become a model that servers pick up?

python -m serving.export --workdir runs/sentiment --base_path exports --name sentiment
"""

from pathlib import Path

from absl import flags

from apps.flags import run_program
from kerasllm.config import load_run
from kerasllm.errors import ExportError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from and where to."""
    flags.DEFINE_string(
        "workdir", None, "Folder of the fine-tuning run: run.yaml, tokenizer/, checkpoints/.", required=True
    )
    flags.DEFINE_string("base_path", "exports", "Folder of all exported models.")
    flags.DEFINE_string("name", None, "Name of the model; its versions stand in BASE_PATH/NAME/.", required=True)
    flags.DEFINE_enum(
        "checkpoint", "best", ["best", "newest"], "Which checkpoint: lowest held-out loss, or the last one."
    )


def export() -> Path:
    """Writes the next version of the model and returns its folder.

    Raises:
      ConfigError, CheckpointError, DataError: the workdir is not whole.
      ExportError: the model is none that can be exported, or a check failed.
    """
    workdir = Path(FLAGS.workdir)
    run = load_run(workdir / "run.yaml")
    if run.objective.task != "text_classification":
        raise ExportError(
            f"--workdir {workdir} holds a run of {run.objective.task}; only text_classification can be exported. "
            "Fine-tune a classifier from it first."
        )
    from kerasllm.export import write_classifier
    from kerasllm.trained import load
    from kerasllm.training import find_checkpoint

    checkpoint = find_checkpoint(workdir, FLAGS.checkpoint)
    trained = load(workdir, FLAGS.checkpoint)
    folder = write_classifier(
        trained.model, trained.tokenizer, trained.run, FLAGS.base_path, FLAGS.name, checkpoint.metrics
    )
    print(f"Exported step {checkpoint.step} of {workdir} to {folder}")
    return folder


if __name__ == "__main__":
    define_flags()
    run_program(export)
