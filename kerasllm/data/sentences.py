"""Where does a sentence end? Splitting the text of a document, in English and Chinese, without losing a character."""

import re

# Words before a full stop that does not end a sentence. In lower case.
ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr rev hon gen col capt lt sgt gov sen rep pres messrs mme mlle inc ltd corp co cos bros "
    "no nos vol vols fig figs eq eqs art sec ch pp vs v cf al e.g i.e eg ie viz approx est dept univ assn ave blvd rd mt ft "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun u.s u.k u.n d.c ph.d "
    "a.m p.m".split()
)
_CLOSING = "\"'”’』」）】》)\\]"
_BORDER = re.compile(
    rf"(?P<stop>[.!?]+[{_CLOSING}]*)(?=\s+[\"'“‘(\[]*\s*[A-Z0-9\u00c0-\u00de\u4e00-\u9fff])"  # English
    rf"|[。！？]+[!?！？。]*[{_CLOSING}]*"  # Chinese: the closing quote belongs to the sentence
    r"|(?=\n)"  # a line break ends a sentence, too
)
_LAST_WORD = re.compile(r"([\w.]+)\Z")


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
    """Does a single full stop stand behind a known abbreviation or an initial, as in "J. Smith"?"""
    if match["stop"] != ".":
        return False
    word = _LAST_WORD.search(text[max(0, match.start() - 12) : match.start()])
    if word is None:
        return False
    return word[1].lower() in ABBREVIATIONS or (len(word[1]) == 1 and word[1].isupper() and word[1] != "I")
