"""Which programs do all text classifiers share? Prepare, train, evaluate and predict; an application names its own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import (
    define_machine_flags,
    define_profile_flag,
    define_run_flags,
    define_worker_flags,
    profile_steps,
    run_from_flags,
    strategy_from_flags,
)
from apps.outputs import whole_file, writing_to
from kerasllm.config import LabelHead, Run, load_run, make_run
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kerasllm.trained import Trained

FLAGS = flags.FLAGS


def define_prepare_flags() -> None:
    """Where labelled files come from and where to."""
    define_run_flags()
    flags.DEFINE_multi_string("input", [], "[FORMAT=]FILE of labelled texts, split by shares; may be repeated.")
    flags.DEFINE_multi_string("test_input", [], "[FORMAT=]FILE that is the test part as it is; may be repeated.")
    flags.DEFINE_string("output", None, "Folder to make.", required=True)


def prepare() -> None:
    """Reads, joins, splits, checks and writes labelled files, and prints what there is of each label."""
    settings = run_from_flags().data
    if not FLAGS.input:
        raise ConfigError("--input is missing. Give [FORMAT=]FILE, for example financial_phrasebank=phrasebank.tsv.")

    from kerasllm.data import formats, parts

    rows, test = (
        [row for spec in specs for row in formats.read_format(spec, settings)]
        for specs in (FLAGS.input, FLAGS.test_input)
    )
    dealt = parts.deal(rows, test, settings)
    report = parts.check(dealt, settings)
    parts.write_parts(dealt, settings, Path(FLAGS.output))
    print(report)


def define_train_flags() -> None:
    """Where a fine-tuning starts, where to, and how much of the machine it takes."""
    define_run_flags()
    define_machine_flags()
    define_profile_flag()
    define_worker_flags()
    flags.DEFINE_string("data", None, "Folder with train.tsv and validation.tsv (see prepare).", required=True)
    flags.DEFINE_string("init_from", None, "Pretraining workdir or Hugging Face folder; without it, random weights.")
    flags.DEFINE_string("tokenizer", None, "Folder of the vocabulary, for a start from random weights.")
    flags.DEFINE_string("workdir", None, "Folder of the run: run.yaml, checkpoints, TensorBoard.", required=True)


def train() -> None:
    """Reads the labelled texts, trains, fits the decisions, and prints the scores on the validation part as JSON."""
    table = Path(FLAGS.data) / "train.tsv"
    run = with_labels_of(run_from_flags(), table)

    from kerasllm import data, fine_tuning, training

    strategy = strategy_from_flags(run)
    run, tokenizer = fine_tuning.starting_point(run, FLAGS.init_from, FLAGS.tokenizer)
    examples = data.read_labelled(table, run.data)
    validation = data.read_labelled(table.with_name("validation.tsv"), run.data)
    actions = [
        training.TensorBoard(make_images=fine_tuning.confusion_images(validation, run, tokenizer)),
        training.EmbeddingProjector(tokenizer.words, lambda model: model.backbone.word_table),
        *profile_steps(),
    ]
    results = fine_tuning.fine_tune(
        run, tokenizer, (examples, validation), FLAGS.workdir, FLAGS.init_from, strategy, actions
    )
    print(json.dumps(results, indent=2))


def with_labels_of(run: Run, table: Path) -> Run:
    """The run; heads without labels get those that stand in their column of the table, sorted."""
    heads, settings = run.data.label_heads(), run.data
    if all(head.labels for head in heads.values()):
        return run
    from kerasllm.data import read_columns

    rows = [fields for _, fields in read_columns(table, [head.column for head in heads.values()])]

    def named(head: LabelHead) -> LabelHead:
        found = {row[head.column] for row in rows} - {"", settings.out_of_scope_label}
        return head if head.labels else head.model_copy(update={"labels": tuple(sorted(found - {None}))})

    filled = {name: named(head) for name, head in heads.items()}
    update: dict[str, Any] = {"heads": filled} if settings.heads else {"labels": filled["label"].labels}
    return make_run(run.model_copy(update={"data": settings.model_copy(update=update)}).model_dump(), str(table))


def define_evaluate_flags() -> None:
    """What is scored, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("data", None, "Labelled file: .tsv, .csv or .jsonl.", required=True)
    flags.DEFINE_string("output", None, "JSON of the metrics; pictures and rows are written beside it.", required=True)
    flags.DEFINE_multi_string("set", [], "Override of a data setting, such as data.text_column=sentence.")


def evaluate() -> None:
    """Predicts, prints the figures, and writes them, a picture of each head and the misclassified rows."""
    settings = load_run(Path(FLAGS.workdir) / "run.yaml", FLAGS.set).data

    from kerasllm import data, evaluation
    from kerasllm.trained import load, score

    trained = load(FLAGS.workdir)
    examples = data.read_labelled(FLAGS.data, settings)
    logits = score(trained, examples.texts, examples.second)
    heads = evaluation.judge(trained, examples, logits)
    output = Path(FLAGS.output)
    with writing_to(output):
        scores = {"data": Path(FLAGS.data).name, "num_examples": len(examples), "heads": heads}
        output.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, picture in evaluation.pictures(trained, examples, logits).items():
            (output.parent / f"{name}.png").write_bytes(picture)
        wrong = evaluation.misclassified(trained, examples, logits)
        (output.parent / "misclassified.tsv").write_text(wrong, encoding="utf-8")
    print("\n\n".join(evaluation.table(name, figures) for name, figures in heads.items()))


def define_predict_flags() -> None:
    """What is scored, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string(
        "input", None, "Texts: .txt (one a line), or .tsv, .csv, .jsonl with a text column.", required=True
    )
    flags.DEFINE_string("output", None, "File to write: text, and label, answer and probabilities.", required=True)
    flags.DEFINE_multi_string("set", [], "Override of a data setting, such as data.text_column=sentence.")


def predict() -> None:
    """Reads, scores and writes; every row comes out, in order, and the output appears when it is whole."""
    settings = load_run(Path(FLAGS.workdir) / "run.yaml", FLAGS.set).data

    from kerasllm import data
    from kerasllm.trained import load

    trained = load(FLAGS.workdir)
    texts = data.read_texts(FLAGS.input, settings)
    output = Path(FLAGS.output)
    with whole_file(output) as file:
        for fields in answer_rows(trained, texts):
            print(*fields, sep="\t", file=file)
    print(f"{len(texts):,} rows -> {output}")


def answer_rows(trained: "Trained", texts: list[str]) -> "Iterator[list[str]]":
    """A header and a row for each text: for each head label, whether it is answered, the set, and probabilities.

    Columns carry the prefix `<head>_` where there are several heads, as the served outputs do.
    """
    from kerasllm.trained import classify

    heads, found = trained.run.data.label_heads(), classify(trained, texts)
    header, columns = ["text"], [[" ".join(text.split()) for text in texts]]
    for name, head in heads.items():
        prefix, probabilities, decision = f"{name}_" if len(heads) > 1 else "", found[name], trained.decision(name)
        header += [prefix + column for column in ("label", "abstain", "set", *head.labels)]
        sets = [[head.labels[place] for place in row.nonzero()[0]] for row in decision.sets(probabilities)]
        columns += [
            [head.labels[place] for place in probabilities.argmax(axis=-1)],
            [str(bool(abstains)).lower() for abstains in decision.abstains(probabilities)],
            ["|".join(one) for one in sets],
            *([f"{share:.6f}" for share in column] for column in probabilities.T),
        ]
    yield header
    yield from (list(row) for row in zip(*columns, strict=True))
