"""How near do generated replies come to the company's, beside retrieved ones? chrF, variety and repetition of all.

    python -m benchmarks.generated_replies --data DIR/sgd_dialogs/dev_1000.jsonl --workdir runs/sgd_replies
    python -m benchmarks.generated_replies --data DIR/bank_faq/faq.tsv --workdir runs/faq_replies
    python -m benchmarks.generated_replies --data DIR/bank_faq/faq.tsv --workdir runs/faq_replies \
        --retriever_config configs/customer_service/bank_faq.yaml --retriever_init_from "$(scripts/get_minilm)"

Dialogues, or questions with their answers, are dealt to train, validation and test by a hash of their text. Generated:
a GPT that learned the replies of the training part, from --init_from or, without it, from random weights and a
vocabulary of that part; the most probable tokens, from the whole conversation. Retrieved: the reply that was given to
the training part's most similar question by BM25, the two turns before it included. With --retriever_config there are
two ways more. Found: the best reply of a dual encoder with BM25 that was tuned on the training part. Grounded: what a
GPT writes from the best of these replies, numbers and codes only copied; the found one where it does not stand in them.
All answer the same questions of the test part.
"""

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from apps.flags import define_machine_flags, define_run_flags, run_from_flags, run_program
from benchmarks.rank_table import refuse_stopped

if TYPE_CHECKING:
    from apps.customer_service.formats import Pair
    from kerasllm.config import Run
    from kerasllm.data import Dialogue
    from kerasllm.trained import Trained

FLAGS = flags.FLAGS
SHARES = {"test": 0.2, "validation": 0.1}
CONTEXT_TURNS = 2  # of a retrieval query
MAX_NEW_TOKENS = 64


class Question(NamedTuple):
    """A turn of the company: what stands before it, for all ways, and what it says."""

    prompt: str
    query: str
    reply: str
    pair: "Pair"


def define_flags() -> None:
    """Says where from, where to, and how much."""
    define_run_flags()
    FLAGS.set_default("config", "configs/pretrain/dialogue.yaml")
    define_machine_flags()
    flags.DEFINE_string("data", None, "Dialogues (.jsonl), or a table with columns question and answer.", required=True)
    flags.DEFINE_string("init_from", None, "Pretraining workdir of a GPT.")
    flags.DEFINE_string("retriever_config", None, "YAML with the part matching; adds the ways found and grounded.")
    flags.DEFINE_string("retriever_init_from", None, "Hugging Face folder or pretraining workdir of its encoder.")
    flags.DEFINE_string("workdir", None, "Folder of the run; a finished one is read, not computed.", required=True)
    flags.DEFINE_integer("questions", 200, "Of the test part, drawn by --question_seed.", lower_bound=1)
    flags.DEFINE_integer("question_seed", 1, "Of the drawing.")


def main() -> None:
    """Trains what is not trained, answers, and prints the table."""
    from benchmarks.baselines import bm25
    from kerasllm import training
    from kerasllm.data import split_by_text
    from kerasllm.writing import replies_to

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    parts = split_by_text(read(Path(FLAGS.data)), text_of, SHARES)
    trained = tuned(run_from_flags(), parts["train"], parts["validation"])
    past, asked = (questions_of(parts[part], trained.run) for part in ("train", "test"))
    asked = random.Random(FLAGS.question_seed).sample(asked, min(FLAGS.questions, len(asked)))
    similar = bm25.scores([one.query for one in past], [one.query for one in asked]).argmax(axis=1)
    generated = replies_to(trained, [one.prompt for one in asked], MAX_NEW_TOKENS)
    ways = {"generated": generated, "retrieved": [past[place].reply for place in similar]}
    if FLAGS.retriever_config is not None:
        from benchmarks.grounded_replies import found_and_grounded

        judged = [one.pair for one in questions_of(parts["validation"], trained.run)]
        ways |= found_and_grounded([one.pair for one in past], judged, [one.pair for one in asked], trained.run)
    true, said = [one.reply for one in asked], {one.reply for one in past}
    table = {way: figures(replies, true, said) for way, replies in (*ways.items(), ("the company's", true))}
    print(f"{'':14}" + "".join(f"{name:>12}" for name in table["generated"]) + f"   {len(asked)} questions")
    for way, row in table.items():
        print(f"{way:14}" + "".join(f"{value:12.3f}" for value in row.values()))
    for place, one in enumerate(asked[:3]):
        print(f"\nasked: {one.query}\ntrue: {one.reply}", *(f"{way}: {ways[way][place]}" for way in ways), sep="\n")
    print(json.dumps(table))


def read(path: Path) -> list["Dialogue"]:
    """The dialogues of a file; a question and its answer are a short one."""
    from kerasllm.data import Dialogue, Turn, read_columns, read_dialogues
    from kerasllm.text.turns import ASSISTANT, CUSTOMER

    if path.suffix == ".jsonl":
        return read_dialogues(path)
    dialogues = []
    for number, row in read_columns(path, ["question", "answer"]):
        answer = (
            " ".join(row["answer"].split()).removesuffix("View more").strip()
        )  # words of the page, not of the answer
        dialogues.append(Dialogue(f"{path}:{number}", (Turn(CUSTOMER, row["question"]), Turn(ASSISTANT, answer))))
    return dialogues


def text_of(dialogue: "Dialogue") -> str:
    """What equal dialogues share: of a question with an answer the question, so that equal ones stay together."""
    turns = dialogue.turns[:1] if len(dialogue.turns) == 2 else dialogue.turns
    return "\n".join(turn.text for turn in turns)


def tuned(run: "Run", train: list["Dialogue"], validation: list["Dialogue"]) -> "Trained":
    """The GPT that learned the training part's replies."""
    from kerasllm import fine_tuning, text, training
    from kerasllm.trained import load

    if FLAGS.init_from is not None:
        run, tokenizer = fine_tuning.starting_point(run, FLAGS.init_from, None)
    else:
        words = (turn.text for dialogue in train for turn in dialogue.turns)
        tokenizer = text.train_sentencepiece(words, run.tokenizer.vocab_size)
    strategy = training.make_strategy(run.train.strategy, FLAGS.num_devices)
    parts = train, validation
    results = fine_tuning.tune_on_dialogues(run, tokenizer, parts, FLAGS.workdir, FLAGS.init_from, strategy)
    refuse_stopped(results, Path(FLAGS.workdir))
    return load(FLAGS.workdir)


def questions_of(dialogues: list["Dialogue"], run: "Run") -> list[Question]:
    """Every turn of the company that follows one of the customer."""
    from apps.customer_service.formats import Pair
    from kerasllm.text.chat import Role, reply_prompt
    from kerasllm.text.turns import ASSISTANT, CUSTOMER, join_turns, query_texts

    contexts, rows = list[str](), list[tuple[str, str, str]]()
    for dialogue in dialogues:
        said: list[tuple[Role, str]] = []
        for turn, answer in zip(dialogue.turns, dialogue.turns[1:], strict=False):
            said.append(("user" if turn.speaker == CUSTOMER else "assistant", turn.text))
            if (turn.speaker, answer.speaker) == (CUSTOMER, ASSISTANT):
                names: dict[Any, str] = {"user": CUSTOMER, "assistant": ASSISTANT}
                contexts.append(join_turns((names[role], text) for role, text in said[:-1]))
                rows.append((reply_prompt(run.data.chat, said), turn.text, answer.text))
    queries = query_texts([question for _, question, _ in rows], contexts, CONTEXT_TURNS).numpy()
    return [
        Question(prompt, query.decode(), reply, Pair(asked, reply, context))
        for (prompt, asked, reply), query, context in zip(rows, queries, contexts, strict=True)
    ]


def figures(replies: list[str], true: list[str], said: set[str]) -> dict[str, float]:
    """ChrF of the whole (0 to 100), variety of words, words a reply, and the share said before in the training part."""
    from sacrebleu.metrics.chrf import CHRF

    from kerasllm.writing import variety

    words = [reply.split() for reply in replies]
    counted = variety(words)
    return {
        "chrF": CHRF().corpus_score(replies, [true]).score,
        "distinct_1": counted["distinct_1"],
        "distinct_2": counted["distinct_2"],
        "repeated_4": counted["repeated_4"],
        "words": sum(map(len, words)) / len(words),
        "said_before": sum(reply in said for reply in replies) / len(replies),
    }


if __name__ == "__main__":
    define_flags()
    run_program(main)
