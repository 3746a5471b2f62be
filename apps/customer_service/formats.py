"""In which forms do dialogues and intents come? Each by name, read into pairs and labelled questions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kerasllm.errors import ConfigError, DataError
from kerasllm.text.turns import ASSISTANT, CUSTOMER, join_turns


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
    """Pairs of the customer's turns and the replies to them, of a file as kerasllm.data.read_dialogues takes it."""
    from kerasllm.data import read_dialogues

    pairs: list[Pair] = []
    intents: list[tuple[str, str]] = []
    for dialogue in read_dialogues(path):
        for index, turn in enumerate(dialogue.turns):
            if turn.speaker != CUSTOMER:
                continue
            if turn.intent:
                intents.append((turn.text, turn.intent))
            reply = next(iter(dialogue.turns[index + 1 :]), None)
            if reply is not None and reply.speaker == ASSISTANT:
                context = join_turns((earlier.speaker, earlier.text) for earlier in dialogue.turns[:index])
                pairs.append(Pair(turn.text, reply.text, context, turn.intent, dialogue.place))
    return Rows(pairs, intents)


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
