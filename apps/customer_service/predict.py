"""Answers a file of questions in bulk: each row comes out with reply, action and reason, in the same order.

python -m apps.customer_service.predict --workdir runs/support --input questions.txt --output answered.tsv
"""

from pathlib import Path

from absl import flags

from apps.flags import run_program
from apps.outputs import whole_file

FLAGS = flags.FLAGS
COLUMNS = ("question", "action", "reply", "reason", "score", "matched_question", "intent", "intent_score", "source")


def define_flags() -> None:
    """Says what is answered, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("input", None, "Questions: .txt (one a line), or .tsv, .csv, .jsonl.", required=True)
    flags.DEFINE_string("documents", None, "Folder of documents that the assistant may cite.")
    flags.DEFINE_string("output", None, "Table to write.", required=True)
    flags.DEFINE_string("question_column", "question", "Column of the questions.")


def main() -> None:
    """Reads, answers and writes; the output appears when it is whole."""
    from apps.customer_service import assembly
    from apps.customer_service.documents import read_documents
    from apps.customer_service.formats import Pair
    from apps.customer_service.task import KEPT, read_pairs
    from kerasllm import data
    from kerasllm.config import Data

    questions = data.read_texts(FLAGS.input, Data(text_column=FLAGS.question_column))
    passages = read_documents(Path(FLAGS.documents)) if FLAGS.documents else []
    assembled = assembly.assemble(Path(FLAGS.workdir), passages=passages)
    confidence = assembly.fit(assembled, read_pairs(Path(FLAGS.workdir) / KEPT, "validation"))
    answers = assembly.answer(assembled.signatures(confidence), [Pair(question, "") for question in questions])
    rows = [{**answer, "question": question} for answer, question in zip(answers, questions, strict=True)]
    output = Path(FLAGS.output)
    with whole_file(output) as file:
        file.write(assembly.table(rows, COLUMNS))
    print(f"{len(questions):,} rows -> {output}")


if __name__ == "__main__":
    define_flags()
    run_program(main)
