"""Talks to a served assistant, turn by turn; personal data is masked in the log.

python -m apps.customer_service.chat --server 127.0.0.1:8500 --model assistant [--log chat.jsonl] [--questions FILE]
    [--generate]
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from absl import flags

from apps.flags import run_program
from kerasllm.errors import DataError

if TYPE_CHECKING:
    from serving.clients import PredictClient

FLAGS = flags.FLAGS
KEPT_TURNS = 10  # of the conversation, sent as context
SHOWN = ("action", "reason", "intent", "intent_score", "score", "matched_reply", "matched_question", "source")
WRITTEN = ("action", "reason", "intent", "score", "source", "generated", "cited", "document")  # with --generate


def define_flags() -> None:
    """Says whom to ask, and what is kept."""
    flags.DEFINE_string("server", "127.0.0.1:8500", "HOST:PORT of the gRPC server.")
    flags.DEFINE_string("model", "assistant", "Name of the model on the server.")
    flags.DEFINE_float("deadline_s", 30.0, "Seconds that an answer may take.", lower_bound=0)
    flags.DEFINE_string("questions", None, "File with one question a line; without it, standard input.")
    flags.DEFINE_string("log", None, "File that each turn is appended to, as JSON lines.")
    flags.DEFINE_bool("mask", True, "Mask e-mail addresses, phone, card and identity numbers in the log.")
    flags.DEFINE_bool("generate", False, "Let the assistant write replies of its own; it needs a generator.")
    flags.DEFINE_bool("reasons", True, "Show why, under each answer.")


def main() -> None:
    """Asks line by line; an empty line begins a new conversation."""
    from serving.clients import PredictClient

    try:
        lines = open(FLAGS.questions, encoding="utf-8") if FLAGS.questions else sys.stdin  # noqa: SIM115
        log = open(FLAGS.log, "a", encoding="utf-8") if FLAGS.log else None  # noqa: SIM115
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be opened ({error.strerror}).") from None
    is_dialogue = lines is sys.stdin and sys.stdin.isatty()
    with PredictClient(FLAGS.server, FLAGS.model, FLAGS.deadline_s) as client:
        for question, answer in converse(client, _prompted(lines) if is_dialogue else lines, FLAGS.generate):
            if not is_dialogue:
                print(f"customer:  {question}")
            print(f"assistant: {answer['reply']}")
            if FLAGS.reasons:
                print(f"           [{described(answer)}]", flush=True)
            if log:
                write_turn(log, question, answer, mask=FLAGS.mask)


def converse(
    client: "PredictClient", lines: Iterable[str], generate: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each question with the assistant's answer; the turns before it go along as context."""
    from kerasllm.text.turns import join_turns
    from serving.clients import generate_reply, reply

    turns: list[tuple[str, str]] = []
    for line in lines:
        question = line.strip()
        if not question:
            turns = []
            continue
        context = join_turns(turns[-KEPT_TURNS:])
        answer = dataclasses.asdict((generate_reply if generate else reply)(client, question, context))
        turns += [("customer", question), ("assistant", str(answer["reply"]))]
        yield question, answer


def described(answer: dict[str, Any]) -> str:
    """Why the assistant said it, in a line."""
    parts = [f"{answer['action']}: {answer['reason']}"]
    if "generated" in answer:
        parts += [
            f"{answer['source']} {answer['score']:.2f}",
            *(f"cited {cited!r}" for cited in answer["cited"] if cited),
        ]
        return "; ".join([*parts, *([f"document {answer['document']}"] if answer["document"] else [])])
    parts.append(f"intent {answer['intent']} {answer['intent_score']:.2f}")
    parts.append(f"match {answer['score']:.2f} by {answer['matched_question']!r}")
    if answer["missing_slot"]:
        parts.append(f"missing {answer['missing_slot']}")
    if answer["source"]:
        parts.append(f"source {answer['source']}")
    return "; ".join(parts)


def write_turn(log: TextIO, question: str, answer: dict[str, Any], *, mask: bool) -> None:
    """Appends one turn to the log, at once."""
    turn = {"time": round(time.time(), 3), "question": question, "reply": answer["reply"]}
    turn |= {name: answer[name] for name in (WRITTEN if "generated" in answer else SHOWN)}
    if mask:
        turn = {key: _masked(value) for key, value in turn.items()}
    print(json.dumps(turn, ensure_ascii=False), file=log, flush=True)


def _masked(value: Any) -> Any:
    """A value of the log, and the strings of a list, without personal data."""
    from kerasllm.text.privacy import mask_personal_data

    if isinstance(value, list):
        return [_masked(one) for one in value]
    return mask_personal_data(value) if isinstance(value, str) else value


def _prompted(lines: TextIO) -> Iterator[str]:
    """Lines of a terminal, each after a prompt."""
    while True:
        print("customer:  ", end="", flush=True)
        line = lines.readline()
        if not line:
            return
        yield line


if __name__ == "__main__":
    define_flags()
    run_program(main)
