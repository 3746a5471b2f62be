"""In which forms do dialogues and intents come? Each by name, read into pairs and labelled questions."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.errors import ConfigError, DataError
from kerasllm.text.turns import ASSISTANT, CUSTOMER, join_turns

CUSTOMERS = {"user", "customer", "client", "顾客", "客户", "用户"}  # names of the asking side in dialogue files


@dataclass(frozen=True)
class Pair:
    """A question with its best reply.

    Attributes:
      question: of the customer.
      reply: of the company.
      context: earlier turns, as kerasllm.text.turns writes them.
      intent: what the customer wants; "" where nobody said.
      group: rows of one dialogue share it and stay in one part of the data.
    """

    question: str
    reply: str
    context: str = ""
    intent: str = ""
    group: str = ""


@dataclass(frozen=True)
class Rows:
    """What a file holds: pairs, and questions with their intents."""

    pairs: list[Pair]
    intents: list[tuple[str, str]]


@dataclass(frozen=True)
class Columns:
    """Where question, reply, context and intent stand in a .tsv, .csv or .jsonl file; None: not there."""

    question: str
    reply: str | None = None
    context: str | None = None
    intent: str | None = None


def read(spec: str) -> Rows:
    """Reads `FORMAT=FILE`.

    Raises:
      ConfigError: no such format.
      DataError: naming file and line: missing, not UTF-8, a missing column, an empty question, another form.
    """
    name, equals, file = spec.partition("=")
    if not equals or name not in FORMATS:
        raise ConfigError(f"--input {spec}: expected FORMAT=FILE. Formats: {', '.join(FORMATS)}.")
    form = FORMATS[name]
    rows = _table(Path(file), form) if isinstance(form, Columns) else form(Path(file))
    if not rows.pairs and not rows.intents:
        raise DataError(f"{file}: no rows in the form {name}. Give a file with at least one question.")
    return rows


def _table(path: Path, form: Columns) -> Rows:
    from kerasllm.data import read_columns

    pairs, intents = [], []
    columns = [name for name in (form.question, form.reply) if name]
    for number, fields in read_columns(path, columns):
        question = fields[form.question].strip()
        reply = fields[form.reply].strip() if form.reply else ""
        if not question or (form.reply and not reply):
            raise DataError(f"{path}:{number}: the question or its reply is empty. Mend or remove the row.")
        intent = fields.get(form.intent or "", "").strip()
        context = fields.get(form.context or "", "").replace("\\n", "\n").strip()
        if intent:
            intents.append((question, intent))
        if reply:
            pairs.append(Pair(question, reply, context, intent))
    return Rows(pairs, intents)


def _dialogues(path: Path) -> Rows:
    """One dialogue a line: {"turns": [{"speaker", "text", optionally "intent"}]}, as in Schema-Guided Dialogue."""
    pairs: list[Pair] = []
    intents: list[tuple[str, str]] = []
    for number, dialogue in _objects(path):
        turns = dialogue.get("turns")
        if not isinstance(turns, list):
            raise DataError(f"{path}:{number}: no list 'turns' (found: {', '.join(dialogue)}).")
        said = [_turn(turn, f"{path}:{number}") for turn in turns]
        for index, (speaker, text, intent) in enumerate(said):
            if speaker != CUSTOMER:
                continue
            if intent:
                intents.append((text, intent))
            if index + 1 < len(said) and said[index + 1][0] == ASSISTANT:
                context = join_turns((who, words) for who, words, _ in said[:index])
                pairs.append(Pair(text, said[index + 1][1], context, intent, f"{path.name}:{number}"))
    return Rows(pairs, intents)


def _turn(turn: Any, place: str) -> tuple[str, str, str]:
    """Speaker, text and intent of a turn."""
    if not isinstance(turn, dict) or not isinstance(turn.get("text"), str) or not isinstance(turn.get("speaker"), str):
        raise DataError(f'{place}: a turn is {{"speaker": ..., "text": ...}}, this is {str(turn)[:60]!r}.')
    intent = turn.get("intent") or ""
    if isinstance(intent, list):
        intent = intent[0]
    speaker = CUSTOMER if turn["speaker"].casefold() in CUSTOMERS else ASSISTANT
    return speaker, " ".join(turn["text"].split()), str(intent)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}. Save the file as UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON ({error}). Each line holds one dialogue.") from None
        if not isinstance(fields, dict):
            raise DataError(f"{path}:{number}: a {type(fields).__name__}, not an object.")
        yield number, fields


FORMATS: dict[str, Columns | Callable[[Path], Rows]] = {
    "pairs": Columns("question", "reply", "context", "intent"),  # what prepare writes itself
    "faq": Columns("question", "answer", intent="class"),
    "bank_faq": Columns("question", "answer", intent="class"),
    "intents": Columns("text", intent="intent"),
    "banking77": Columns("text", intent="category"),  # Casanueva et al. 2020
    "clinc150": Columns("text", intent="intent"),  # Larson et al. 2019; `oos` are out of scope
    "dialogues": _dialogues,
    "sgd": _dialogues,  # Rastogi et al. 2020, Schema-Guided Dialogue
}
