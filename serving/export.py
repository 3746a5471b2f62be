"""How does a fine-tuned workdir become a model that servers pick up?

python -m serving.export --workdir runs/sentiment --base_path exports --name sentiment
python -m serving.export --check exports/sentiment/1    # or any other SavedModel
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import run_program
from kerasllm.config import Run, load_run
from kerasllm.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from kerasllm.trained import Trained

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from and where to."""
    flags.DEFINE_string("workdir", None, "Folder of the fine-tuning run: run.yaml, tokenizer/, checkpoints/.")
    flags.DEFINE_string("base_path", "exports", "Folder of all exported models.")
    flags.DEFINE_string("name", None, "Name of the model; its versions stand in BASE_PATH/NAME/.")
    flags.DEFINE_bool(
        "measure_batching",
        False,
        "Times batches of 1 to 64 rows of the export and writes batching_params.pbtxt with the best; takes seconds to "
        "minutes, on a machine like the one that serves.",
    )
    flags.DEFINE_bool(
        "bfloat16_weights",
        False,
        "Stores matrices as bfloat16, in half of the bytes, and tells what that changes for the texts of --evaluation; "
        "servers compute in float32 as ever.",
    )
    flags.DEFINE_bool(
        "bfloat16_compute",
        False,
        "Stores matrices as bfloat16 and computes in it, for servers whose processors multiply it (AVX512-BF16, AMX); "
        "of classifiers and GPTs it tells what that changes, as --bfloat16_weights does.",
    )
    flags.DEFINE_string(
        "evaluation",
        None,
        "Labelled file, or .txt with a text a line: its text of median length is what --measure_batching times, and "
        "what is done in bfloat16 is judged by it.",
    )
    flags.DEFINE_string(
        "check",
        None,
        "Folder of one version of a SavedModel, of this project or not: nothing is exported; it tells what a stock "
        "TensorFlow Serving would make of it, with exit code 1 if something would fail.",
    )
    flags.DEFINE_enum(
        "checkpoint", "best", ["best", "newest"], "Which checkpoint: lowest held-out loss, or the last one."
    )
    flags.DEFINE_float(
        "min_behaviour",
        None,
        "Least share of each behaviour test's cases, in place of export.min_behaviour of the run; 0 lets all pass. The "
        "model card tells that it was given.",
        lower_bound=0,
        upper_bound=1,
    )


def main() -> None:
    """Examines the SavedModel of --check, or exports the --workdir.

    Raises:
      ConfigError: the flags do not say which of the two.
      ExportError: as `check` and `export` do.
    """
    if FLAGS.check is not None:
        check(Path(FLAGS.check))
    elif FLAGS.workdir is None or FLAGS.name is None:
        raise ConfigError("give --workdir and --name to export a run, or --check FOLDER to examine a SavedModel.")
    else:
        export()


def check(directory: Path) -> None:
    """Prints what a stock server would make of a SavedModel.

    Raises:
      ExportError: it would not load it, or not answer; or there is none.
    """
    from kerasllm.export import examine

    examined = examine(directory)
    for finding in examined.findings:
        print(f"{'FAILS ' if finding.fails else 'advice'}  {finding.problem}\n        to mend: {finding.remedy}")
    for note in examined.notes:
        print(f"        {note}")
    num_failures = sum(finding.fails for finding in examined.findings)
    if num_failures:
        raise ExportError(f"{directory}: {num_failures} findings that make a stock TensorFlow Serving fail.")
    print(f"{directory}: a stock TensorFlow Serving runs it")


def export() -> Path:
    """Writes the next version of the model and returns its folder.

    Raises:
      ConfigError, CheckpointError, DataError: the workdir is not whole.
      ExportError: the model is none that can be exported, or a check failed.
    """
    workdir = Path(FLAGS.workdir)
    run = load_run(workdir / "run.yaml")
    writers = {
        "text_classification": _export_classifier,
        "recommendation": _export_recommender,
        "gpt_pretraining": _export_generator,
        "text_matching": _export_encoder,
        "dialogue": _export_generator,
    }
    if run.data.second_text_column is not None:
        raise ExportError(
            f"--workdir {workdir} holds a classifier of text pairs, and a served signature takes one text: it would "
            "answer for the first texts alone. Score pairs with kerasllm.trained.score."
        )
    if run.objective.task not in writers:
        raise ExportError(
            f"--workdir {workdir} holds a run of {run.objective.task}; what can be exported: {', '.join(writers)}. "
            "Fine-tune one of these from it first."
        )
    if FLAGS.bfloat16_weights and run.objective.task != "text_classification":
        raise ConfigError(f"--bfloat16_weights is for classifiers, and {workdir} holds a run of {run.objective.task}.")
    if FLAGS.bfloat16_compute and run.objective.task == "recommendation":
        raise ConfigError(f"--bfloat16_compute is for classifiers, encoders and GPTs; {workdir} is a recommender.")
    if FLAGS.bfloat16_weights and FLAGS.bfloat16_compute:
        raise ConfigError("--bfloat16_compute stores bfloat16 too: leave out --bfloat16_weights.")
    is_rounded = FLAGS.bfloat16_weights or FLAGS.bfloat16_compute
    if is_rounded and run.objective.task != "text_matching" and FLAGS.evaluation is None:
        raise ConfigError(
            "--bfloat16_weights needs --evaluation FILE, and so does --bfloat16_compute: they tell what it changes "
            "for its texts."
        )
    return writers[run.objective.task](workdir, run)


def _export_recommender(workdir: Path, run: Run) -> Path:
    from kerasllm import recommending
    from kerasllm.training import find_checkpoint

    checkpoint = find_checkpoint(workdir, FLAGS.checkpoint)
    folder = recommending.export(
        workdir, FLAGS.checkpoint, FLAGS.base_path, FLAGS.name, checkpoint.metrics, FLAGS.measure_batching
    )
    print(f"Exported step {checkpoint.step} of {workdir} to {folder}")
    return folder


def _export_generator(workdir: Path, run: Run) -> Path:
    from kerasllm.data import read_texts
    from kerasllm.export.generation import write_generator
    from kerasllm.trained import load
    from kerasllm.training import find_checkpoint

    checkpoint = find_checkpoint(workdir, FLAGS.checkpoint)
    trained = load(workdir, FLAGS.checkpoint)
    texts = read_texts(FLAGS.evaluation, run.data) if FLAGS.bfloat16_compute else None
    chat = run.data.chat if run.objective.task == "dialogue" else None
    folder = write_generator(
        trained.model, trained.tokenizer, FLAGS.base_path, FLAGS.name, checkpoint.metrics, texts, chat
    )
    if texts is not None:
        changed = json.loads((folder / "assets.extra" / "export.json").read_text(encoding="utf-8"))["bfloat16"]
        print(
            f"bfloat16: loss {changed['bfloat16_loss']:.4f} in place of {changed['float32_loss']:.4f} for "
            f"{changed['num_tokens']} tokens; {changed['words_changed']} times another word is the most probable"
        )
    print(f"Exported step {checkpoint.step} of {workdir} to {folder}")
    return folder


def _export_encoder(workdir: Path, run: Run) -> Path:
    from kerasllm.data import read_texts
    from kerasllm.export.encoder import write_encoder
    from kerasllm.trained import load
    from kerasllm.training import find_checkpoint

    checkpoint = find_checkpoint(workdir, FLAGS.checkpoint)
    trained = load(workdir, FLAGS.checkpoint)
    texts = read_texts(FLAGS.evaluation, run.data) if FLAGS.evaluation is not None else []
    folder = write_encoder(
        trained.model,
        trained.tokenizer,
        run.export.sequence_length,
        FLAGS.base_path,
        FLAGS.name,
        checkpoint.metrics,
        FLAGS.bfloat16_compute,
        median_text(trained, texts) if FLAGS.measure_batching else None,
    )
    print(f"Exported step {checkpoint.step} of {workdir} to {folder}")
    return folder


def _export_classifier(workdir: Path, run: Run) -> Path:
    from kerasllm.data import read_texts
    from kerasllm.export import ExportOptions, write_classifier
    from kerasllm.trained import load
    from kerasllm.training import find_checkpoint

    checkpoint = find_checkpoint(workdir, FLAGS.checkpoint)
    check_behaviour(workdir, run, checkpoint.step, FLAGS.min_behaviour)
    trained = load(workdir, FLAGS.checkpoint)
    texts = read_texts(FLAGS.evaluation, run.data) if FLAGS.evaluation is not None else []
    folder = write_classifier(
        trained.model,
        trained.tokenizer,
        trained.run,
        FLAGS.base_path,
        FLAGS.name,
        checkpoint.metrics,
        trained.decisions,
        model_card(workdir, FLAGS.min_behaviour),
        ExportOptions(
            behaviour_of(workdir, run),
            median_text(trained, texts) if FLAGS.measure_batching else None,
            FLAGS.bfloat16_weights,
            tuple(texts),
            FLAGS.bfloat16_compute,
        ),
    )
    notes = json.loads((folder / "assets.extra" / "export.json").read_text(encoding="utf-8"))
    for head, one in notes.get("bfloat16_weights", {}).items():
        print(
            f"{head}: bfloat16 changes {one['labels_changed']} of {one['num_texts']} labels, a probability by "
            f"{one['largest_difference']:.1e} at most"
        )
    print(f"Exported step {checkpoint.step} of {workdir} to {folder}")
    return folder


def median_text(trained: "Trained", texts: Sequence[str]) -> str:
    """The text of median length in tokens; without any, a text half as long as the longest that is read."""
    from kerasllm.data import lengths_of
    from kerasllm.export.warmup import bucket_text

    if not texts:
        return bucket_text(trained.run.export.sequence_length // 2).decode()
    order = sorted(zip(lengths_of(trained.tokenizer, texts), texts, strict=True))
    return order[len(order) // 2][1]


def behaviour_of(workdir: Path, run: Run) -> tuple[str, ...]:
    """The section of the model card on behaviour.json, if the workdir has one that can be read."""
    from kerasllm.export.card import behaviour_section

    try:
        tested = json.loads((workdir / "behaviour.json").read_text(encoding="utf-8"))
        return tuple(behaviour_section(tested, run.export.min_behaviour))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ("## Behaviour tests", "", "None were run.", "")


def check_behaviour(workdir: Path, run: Run, step: int, least: float | None) -> None:
    """Refuses a model that was not put to the behaviour tests that its run asks for, or does not pass them.

    Args:
      workdir: holds behaviour.json, which an application's behaviour program writes.
      run: export.min_behaviour says which tests and how much.
      step: of the checkpoint that is exported.
      least: of every test, in place of what the run says.

    Raises:
      ExportError: naming each test that fails.
    """
    if (not run.export.min_behaviour and least is None) or least == 0:
        return
    try:
        tested = json.loads((workdir / "behaviour.json").read_text(encoding="utf-8"))
        rates = {test: float(shares["all"]) for test, shares in tested["pass_rates"].items()}
        tested_step = tested["step"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ExportError(
            f"{workdir} has no behaviour.json to read, but export.min_behaviour asks for tests. Run the behaviour "
            "program of the application on it first, or give --min_behaviour 0."
        ) from None
    if tested_step != step:
        raise ExportError(f"behaviour.json is of step {tested_step}, the checkpoint of step {step}. Test it again.")
    asked = run.export.min_behaviour if least is None else dict.fromkeys(rates, least)
    failed = [
        f"{test}: {rates.get(test, 0.0):.3f} of the cases, {share:.3f} asked for"
        for test, share in asked.items()
        if rates.get(test, 0.0) < share
    ]
    if failed:
        listed = "\n  ".join(failed)
        raise ExportError(f"{workdir} fails behaviour tests; train it better, or give --min_behaviour:\n  {listed}")


def model_card(workdir: Path, least: float | None) -> dict[str, str]:
    """model_card.md of the workdir, if it has one, with a line on the gate where a flag moved it."""
    path = workdir / "model_card.md"
    if not path.exists():
        return {}
    moved = "" if least is None else f"Exported with --min_behaviour {least:g} in place of the shares asked for.\n"
    return {path.name: path.read_text(encoding="utf-8") + moved}


if __name__ == "__main__":
    define_flags()
    run_program(main)
