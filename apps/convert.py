"""Takes a model elsewhere, or fetches one: Hugging Face folders out, keras-nlp presets out and in.

python -m apps.convert --workdir runs/bert --to hugging_face --output elsewhere/bert
python -m apps.convert --workdir runs/gpt --to keras_nlp --output presets/gpt
python -m apps.convert --preset presets/bert --workdir runs/from_preset
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import run_program
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.trained import Trained

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from, where to, and what may get lost."""
    flags.DEFINE_string("workdir", None, "Folder of a run; with --preset, the new folder to write.", required=True)
    flags.DEFINE_enum("to", None, ["hugging_face", "keras_nlp"], "The form that --output gets.")
    flags.DEFINE_string("output", None, "New folder to write.")
    flags.DEFINE_string("preset", None, "Folder of a keras-nlp preset of BERT: it becomes the --workdir.")
    flags.DEFINE_bool("backbone_only", False, "Write the backbone without heads.")
    flags.DEFINE_bool(
        "tanh_gelu",
        False,
        "keras-nlp computes the tanh form of GELU alone: let it stand for the exact one, which moves hidden states by "
        "about a thousandth.",
    )
    flags.DEFINE_enum("checkpoint", "best", ["best", "newest"], "Which checkpoint of --workdir.")


def main() -> None:
    """Converts in the direction that the flags say.

    Raises:
      ConfigError: they say none, or the model has no form there.
      CheckpointError: the source is damaged.
    """
    if FLAGS.preset is not None:
        fetch(FLAGS.preset, FLAGS.workdir)
    elif FLAGS.to is None or FLAGS.output is None:
        raise ConfigError("give --to and --output to write a model, or --preset to fetch one.")
    else:
        from kerasllm import trained

        source = trained.load(FLAGS.workdir, FLAGS.checkpoint)
        if FLAGS.to == "keras_nlp":
            left = to_preset(source, FLAGS.output, with_tanh_gelu=FLAGS.tanh_gelu)
        else:
            left = to_hugging_face(source, FLAGS.output, backbone_only=FLAGS.backbone_only)
        print(f"{FLAGS.output}: written")
        for name in left:
            print(f"left out: {name}")


def to_hugging_face(source: "Trained", output: str, *, backbone_only: bool = False) -> list[str]:
    """Writes a Hugging Face folder; returns what is left out."""
    from kerasllm import interop

    labels = {name: head.labels for name, head in source.run.data.label_heads().items()}
    model = source.model.backbone if backbone_only else source.model
    return [*interop.write_hugging_face(model, output, source.tokenizer, labels)]


def to_preset(source: "Trained", output: str, *, with_tanh_gelu: bool = False) -> list[str]:
    """Writes a keras-nlp preset of the backbone; returns what is left out."""
    from kerasllm import interop

    backbone = source.model.backbone
    has_tokenizer = interop.write_preset(backbone, output, source.tokenizer, with_tanh_gelu=with_tanh_gelu)
    inside = {variable.path for variable in backbone.weights}
    heads = [variable.path for variable in source.model.weights if variable.path not in inside]
    return heads if has_tokenizer else [*heads, "the tokenizer: keras-nlp's GPT-2 has no form for it"]


def fetch(preset: str, workdir: str) -> None:
    """Writes a workdir from a preset of BERT, to go on pretraining or as --init_from of an application.

    Raises:
      ConfigError: the workdir exists already, or the preset has no tokenizer that runs in the graph here.
      CheckpointError: the folder is no preset.
    """
    from kerasllm import interop, make_run, models, trained

    if Path(workdir).exists():
        raise ConfigError(f"--workdir {workdir} exists already. Give the name of a new folder.")
    backbone, tokenizer = interop.read_preset(preset)
    if tokenizer is None or not isinstance(backbone, models.BertBackbone):
        raise ConfigError(
            f"--preset {preset}: its tokenizer is no WordPiece, and a workdir needs one that runs in the graph "
            "here. kerasllm.interop.read_preset gives the backbone alone."
        )
    length = {"sequence_length": min(backbone.options.max_length, 128)}
    run = make_run(
        {
            "objective": {"task": "bert_pretraining"},
            "tokenizer": {
                "kind": "wordpiece",
                "lowercase": tokenizer.lowercase,
                "vocab_size": tokenizer.vocab_size,
            },
            "backbone": backbone.options.model_dump(),
            "train": {"steps": 1000, **length},
            "export": length,
        }
    )
    trained.save(workdir, run, tokenizer, models.BertPretrainer(backbone))
    print(f"{workdir}: written; the heads of pretraining are new")


if __name__ == "__main__":
    define_flags()
    run_program(main)
