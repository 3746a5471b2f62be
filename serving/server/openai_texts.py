"""What is new of the texts of a stream? Only what no later part takes back, since a client cannot unread it."""

from collections.abc import Callable, Sequence

from serving.server.openai_answers import Choice, Usage
from serving.server.streams import Part


class Texts:
    """The choices of one request, row by row.

    Args:
      n: choices of each prompt.
      stops: strings that end a text; its end may be the beginning of one, and is kept back until that is known.
      trim: of a text so far, what counts as the answer.
    """

    def __init__(self, n: int, stops: Sequence[str], trim: Callable[[str], str]) -> None:
        self._n = n
        self._stops = stops
        self._trim = trim
        self._told: dict[int, str] = {}
        self._ended: set[int] = set()

    def new(self, part: Part, all_of_them: bool = False) -> list[Choice]:
        """The choices with something to tell, or all of them."""
        choices = []
        outputs = zip(part.outputs["text"].tolist(), part.outputs["finish_reason"].tolist(), strict=True)
        for index, (text, reason) in enumerate(outputs):
            if index in self._ended:
                continue
            whole = self._trim(text.decode("utf-8", "replace"))
            known = whole if reason else without_beginning_of(whole, self._stops)
            told = self._told.get(index, "")
            if reason:
                self._ended.add(index)
            if len(known) > len(told) or reason or all_of_them:
                choices.append(Choice(index, known[len(told) :], reason.decode()))
                self._told[index] = known if len(known) > len(told) else told
        return choices

    def usage(self, part: Part) -> Usage:
        """The tokens of all choices; a prompt counts once."""
        prompts, completions = part.outputs["num_prompt_tokens"], part.outputs["num_tokens"]
        return Usage(int(prompts[:: self._n].sum()), int(completions.sum()))


def without_beginning_of(text: str, stops: Sequence[str]) -> str:
    """The text without the longest end that may become one of the strings."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return text[:-size]
    return text
