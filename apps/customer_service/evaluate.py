"""Scores the assistant on labelled questions: intents, out of scope, replies found, and how many it may answer.

python -m apps.customer_service.evaluate --workdir runs/support --data data/support/pairs/test.tsv \
    --intents data/support/intents/test.tsv --output metrics.json
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import run_program
from apps.outputs import writing_to
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from apps.customer_service.assembly import Assembled
    from apps.customer_service.formats import Pair
    from apps.customer_service.generating import GeneratingAssistant
    from kerasllm.export.assistant import Confidence

FLAGS = flags.FLAGS
COLUMNS = ("question", "expected", "reply", "action", "score", "matched_reply", "matched_question", "intent", "source")


def define_flags() -> None:
    """Says what is scored, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("data", None, "Questions with their replies: columns question, reply, context, intent.")
    flags.DEFINE_string("intents", None, "Questions with their intents: columns text and label.")
    flags.DEFINE_string("documents", None, "Folder of documents that the assistant may cite.")
    flags.DEFINE_string("output", None, "JSON of the metrics; answers.tsv is written beside it.", required=True)


def main() -> None:
    """Answers, prints the figures, and writes them and every answer."""
    if not FLAGS.data and not FLAGS.intents:
        raise ConfigError("give --data (questions with replies), --intents (questions with intents), or both.")
    from apps.customer_service import assembly, generating
    from apps.customer_service.documents import read_documents
    from apps.customer_service.formats import read
    from apps.customer_service.task import KEPT, read_pairs

    passages = read_documents(Path(FLAGS.documents)) if FLAGS.documents else []
    assembled = assembly.assemble(Path(FLAGS.workdir), passages=passages)
    scores: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    if FLAGS.intents:
        scores["intents"] = judge_intents(assembled, FLAGS.intents)
    if FLAGS.data:
        pairs, validation = read(f"pairs={FLAGS.data}").pairs, read_pairs(assembled.workdir / KEPT, "validation")
        confidence = assembly.fit(assembled, validation)
        scores["replies"], rows = judge_replies(assembled, confidence, pairs)
        if generating.has_generator(assembled.workdir):
            scores["written_replies"] = judge_written(
                assembled, generating.add_generator(assembled, confidence, validation), pairs
            )
    output = Path(FLAGS.output)
    with writing_to(output):
        output.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if rows:
            (output.parent / "answers.tsv").write_text(assembly.table(rows, COLUMNS), encoding="utf-8")
    print(report(scores))


def judge_intents(assembled: "Assembled", path: str) -> dict[str, Any]:
    """Figures of the intent classifier; out of scope where some questions are labelled so."""
    from kerasllm import data, evaluation
    from kerasllm.trained import score

    examples = data.read_labelled(path, assembled.intent.run.data)
    figures = evaluation.judge(assembled.intent, examples, score(assembled.intent, examples.texts))
    return {"num_examples": len(examples), **next(iter(figures.values()), {})}


def judge_replies(
    assembled: "Assembled", confidence: "Confidence", pairs: list["Pair"]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of the replies, and what the assistant said to each question."""
    import numpy as np

    from apps.customer_service import assembly
    from kerasllm import decisions
    from kerasllm.export.assistant import ANSWER, ASK_SLOT, DRAFT

    ranks = assembly.ranks(assembled, confidence, pairs)
    answers = list(assembly.answer(assembled.signatures(confidence), pairs))
    actions = np.array([answer["action"] for answer in answers])
    is_right = np.array(
        [
            answer["matched_reply"] in {assembled.index.replies[place] for place in assembled.right_replies(pair)}
            for answer, pair in zip(answers, pairs, strict=True)
        ]
    )
    is_sure = np.isin(actions, [ANSWER, ASK_SLOT]) | np.array([answer["reason"] == DRAFT for answer in answers])
    figures = {
        "num_examples": len(pairs),
        "num_replies": assembled.index.num_replies,
        "recall_at_1": decisions.recall_at(ranks, 1),
        "recall_at_5": decisions.recall_at(ranks, 5),
        "mean_reciprocal_rank": decisions.mean_reciprocal_rank(ranks),
        "stated_precision": confidence.precision,
        "share_sure": float(is_sure.mean()),
        "precision_of_sure": float(is_right[is_sure].mean()) if is_sure.any() else None,
        "actions": {action: int((actions == action).sum()) for action in sorted(set(actions))},
    }
    rows = [
        {**answer, "question": pair.question, "expected": pair.reply}
        for answer, pair in zip(answers, pairs, strict=True)
    ]
    return figures, rows


def judge_written(assembled: "Assembled", assistant: "GeneratingAssistant", pairs: list["Pair"]) -> dict[str, Any]:
    """How many replies are written ones, how many of these agree with a right one, and why others are not given."""
    import collections

    from apps.customer_service import generating
    from kerasllm.export.grounded_reply import GENERATED

    said = generating.write_replies(assistant, pairs)
    is_given = said["source"] == GENERATED
    is_right = generating.judge(assembled, assistant, pairs, said["generated"].tolist())
    reasons = collections.Counter(reason.partition("; ")[0] for reason in said["reason"][~is_given].tolist())
    return {
        "num_examples": len(pairs),
        "stated_precision": assistant.confidence.precision,
        "min_score": assistant.confidence.min_score,
        "share_written": float(is_given.mean()),
        "precision_of_written": float(is_right[is_given].mean()) if is_given.any() else None,
        "share_right_of_all": float(is_right.mean()),
        "retrieved_instead": dict(reasons.most_common()),
    }


def report(scores: dict[str, Any]) -> str:
    """The figures as aligned lines."""
    lines = []
    for part, figures in scores.items():
        lines.append(part)
        for name, value in figures.items():
            if isinstance(value, dict) and name != "per_class":
                value = "  ".join(f"{key} {_number(one)}" for key, one in value.items())
            if name != "per_class":
                lines.append(f"  {name:<22}{_number(value)}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    define_flags()
    run_program(main)
