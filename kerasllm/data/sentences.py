"""Where does a sentence end? Splitting the text of a document, in English and Chinese, without losing a character."""

import re

# Words before a full stop that does not end a sentence.
_ABBREVIATION = re.compile(
    r"""\b(?:mr|mrs|ms|dr|prof|st|sr|jr|rev|hon|gen|col|capt|lt|sgt|gov|sen|rep|pres|messrs|mme|mlle
    |inc|ltd|corp|co|cos|bros|dept|univ|assn|ave|blvd|rd|mt|ft
    |no|nos|vol|vols|fig|figs|eq|eqs|art|sec|ch|pp|vs|cf|al|e\.g|i\.e|viz|approx|est
    |jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thurs?|fri|sat|sun
    |u\.s|u\.k|u\.n|d\.c|ph\.d|a\.m|p\.m
    |(?-i:[A-HJ-Z]))\Z  # an initial, as in "J. Smith"; "I" is a word
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CLOSING = "\"'”’』」）】》)\\]"
_BORDER = re.compile(
    rf"(?P<stop>[.!?]+[{_CLOSING}]*)(?=\s+[\"'“‘(\[]*[ \t]*[A-Z0-9<\u00c0-\u00de\u4e00-\u9fff])"  # English
    rf"|[。！？]+[!?！？。]*[{_CLOSING}]*"  # Chinese: the closing quote belongs to the sentence
    r"|(?=\n)"  # a line break ends a sentence, too
)


def split_sentences(text: str) -> list[str]:
    """Cuts a text behind its sentences: joined again, they are the text.

    White space between two sentences is the beginning of the second one, as SentencePiece wants it.
    """
    cuts = [0]
    for match in _BORDER.finditer(text):
        end = match.end()
        if text[cuts[-1] : end].strip() and not (match["stop"] and _is_abbreviation(text, match)):
            cuts.append(end)
    cuts.append(len(text))
    parts = [text[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
    if len(parts) > 1 and not parts[-1].strip():
        tail = parts.pop()
        parts[-1] += tail
    return parts


def _is_abbreviation(text: str, match: re.Match[str]) -> bool:
    """Does a single full stop stand behind a known abbreviation or an initial?"""
    longest = 8  # letters, and one character before them
    return match["stop"] == "." and bool(_ABBREVIATION.search(text, max(0, match.start() - longest), match.start()))
