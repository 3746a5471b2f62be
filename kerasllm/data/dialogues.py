"""What was said in a dialogue, and by whom? Files of one dialogue a line, read turn by turn."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.errors import DataError
from kerasllm.text.turns import ASSISTANT, CUSTOMER

CUSTOMERS = {"user", "customer", "client", "顾客", "客户", "用户"}  # names of the asking side in dialogue files


@dataclass(frozen=True)
class Turn:
    """What one side said at once, on one line.

    Attributes:
      speaker: CUSTOMER or ASSISTANT of kerasllm.text.turns.
      text: with single spaces.
      intent: what the customer wants; "" where nobody said.
    """

    speaker: str
    text: str
    intent: str = ""


@dataclass(frozen=True)
class Dialogue:
    """The turns of a conversation.

    Attributes:
      place: file and line.
      turns: in their order.
      system: what the assistant is told before the first turn; mostly "".
    """

    place: str
    turns: tuple[Turn, ...]
    system: str = ""


def read_dialogues(path: Path) -> list[Dialogue]:
    """Reads {"turns": [{"speaker", "text", optionally "intent"}], optionally "system"} a line.

    The form is that of Schema-Guided Dialogue (Rastogi et al. 2020); who is not a customer is the company.

    Raises:
      DataError: naming file and line: missing, not UTF-8, not JSON, or of another form.
    """
    dialogues = []
    for number, fields in _objects(path):
        place, turns, system = f"{path}:{number}", fields.get("turns"), fields.get("system", "")
        if not isinstance(turns, list):
            raise DataError(f"{place}: no list 'turns' (found: {', '.join(fields)}).")
        if not isinstance(system, str):
            raise DataError(f"{place}: 'system' is what the assistant is told, a string, not {str(system)[:60]!r}.")
        said = tuple(_turn(turn, place) for turn in turns)
        dialogues.append(Dialogue(f"{path.name}:{number}", said, " ".join(system.split())))
    return dialogues


def _turn(turn: Any, place: str) -> Turn:
    if not isinstance(turn, dict) or not isinstance(turn.get("text"), str) or not isinstance(turn.get("speaker"), str):
        raise DataError(f'{place}: a turn is {{"speaker": ..., "text": ...}}, this is {str(turn)[:60]!r}.')
    intent = turn.get("intent") or ""
    if isinstance(intent, list):
        intent = intent[0]
    speaker = CUSTOMER if turn["speaker"].casefold() in CUSTOMERS else ASSISTANT
    return Turn(speaker, " ".join(turn["text"].split()), str(intent))


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
