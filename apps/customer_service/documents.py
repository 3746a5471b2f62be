"""Which passages does a folder of documents hold? Markdown and text, cut at headings and paragraphs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kerasllm.errors import DataError

ENDINGS = (".md", ".markdown", ".txt")
MOST_CHARACTERS = 600  # of a passage: what an encoder of 128 tokens reads, and a customer too
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")


@dataclass(frozen=True)
class Passage:
    """A piece of a document.

    Attributes:
      text: one or more whole paragraphs.
      source: `file.md` or `file.md#heading`, relative to the folder.
      heading: of the section, "" before the first one.
    """

    text: str
    source: str
    heading: str


def read_documents(folder: Path) -> list[Passage]:
    """All passages of the .md, .markdown and .txt files in a folder and below it, in the order of their paths.

    Raises:
      DataError: the folder is missing or has no passage, or a file is not UTF-8.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give --documents a folder of Markdown or text files.")
    passages: list[Passage] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()):
        try:
            content = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 at byte {error.start}. Save the file as UTF-8.") from None
        passages += split_document(content, path.relative_to(folder).as_posix())
    if not passages:
        raise DataError(f"{folder}: no passage in its {', '.join(ENDINGS)} files. Give a folder with text.")
    return passages


def split_document(content: str, name: str) -> Iterator[Passage]:
    """Passages of one document: the paragraphs of a section, as many together as fit."""
    for heading, paragraphs in _sections(content):
        source = f"{name}#{heading}" if heading else name
        for text in _joined(paragraphs):
            yield Passage(text, source, heading)


def _sections(content: str) -> Iterator[tuple[str, list[str]]]:
    heading, lines, in_code = "", list[str](), False
    for line in content.splitlines():
        in_code ^= line.lstrip().startswith("```")
        match = None if in_code else _HEADING.match(line)
        if match:
            yield heading, _paragraphs(lines)
            heading, lines = match[1], []
        else:
            lines.append(line)
    yield heading, _paragraphs(lines)


def _paragraphs(lines: list[str]) -> list[str]:
    blocks = re.split(r"\n\s*\n", "\n".join(line for line in lines if not line.lstrip().startswith("```")))
    return [" ".join(block.split()) for block in blocks if block.strip()]


def _joined(paragraphs: list[str]) -> Iterator[str]:
    """Neighbours together up to the limit; a longer paragraph is cut after a sentence."""
    text = ""
    for sentence in (piece for paragraph in paragraphs for piece in _short(paragraph)):
        if text and len(text) + 1 + len(sentence) > MOST_CHARACTERS:
            yield text
            text = sentence
        else:
            text = f"{text} {sentence}".strip()
    if text:
        yield text


def _short(paragraph: str) -> list[str]:
    if len(paragraph) <= MOST_CHARACTERS:
        return [paragraph]
    return [piece.strip() for piece in re.split(r"(?<=[.!?])\s+|(?<=[。！？])", paragraph) if piece.strip()]
