"""Where do the documents come from? Files, folders and patterns of text, .jsonl and .gz, read as a stream."""

import codecs
import dataclasses
import glob
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

from kerasllm.config import Data
from kerasllm.errors import DataError

BOUNDARIES: tuple[str, ...] = get_args(Data.model_fields["document_boundary"].annotation)
DOC_MARKER = "<DOC>"
MAX_DOCUMENT_CHARACTERS = 1 << 20  # a longer document becomes several, so that memory is bounded
_READ_BYTES = 1 << 18
_MAIN_HEADING = re.compile(r"\s*= ([^=].*?) =\s*")
_SUB_HEADING = re.compile(r"\s*(?:= ){2,}.*?(?: =){2,}\s*")


@dataclasses.dataclass(frozen=True)
class Source:
    """One --input: its files in reading order, and how documents are told apart in them."""

    name: str
    boundary: str
    files: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class RawDocument:
    """A document before tokenization.

    Attributes:
      source: number of its source.
      origin: file name and title or ordinal.
      text: without white space around it, never empty.
      split_key: number in [0, 1) from a hash of the text; parts of one long document share it.
    """

    source: int
    origin: str
    text: str
    split_key: float


def find_sources(inputs: Iterable[str], default_boundary: str) -> list[Source]:
    """Resolves `[BOUNDARY:]PATH`, where PATH is a file, a folder (all files below it) or a pattern.

    Raises:
      DataError: nothing is there, or a file is empty.
    """
    sources = [_find_source(spec, default_boundary) for spec in inputs]
    if not sources:
        raise DataError("No input. Name files, folders or patterns with --input.")
    return sources


def read_documents(
    sources: Iterable[Source], text_field: str, progress: Callable[[int], object] = lambda num_bytes: None
) -> Iterator[RawDocument]:
    """Streams the documents of all sources in order.

    Args:
      sources: from `find_sources`.
      text_field: name of the text in .jsonl files, where each line is a document whatever the boundary.
      progress: called with the number of bytes of a file that were read since its last call.

    Raises:
      DataError: a file is not UTF-8 (naming the byte), not gzip though named .gz, or a .jsonl line lacks the field.
    """
    for number, source in enumerate(sources):
        for path in source.files:
            lines = _lines(path, progress)
            is_jsonl = path.name.removesuffix(".gz").endswith(".jsonl")
            titled = _jsonl(path, lines, text_field) if is_jsonl else _split_lines(lines, source.boundary)
            yield from _documents(number, path, titled)


def _find_source(spec: str, default_boundary: str) -> Source:
    prefix, colon, rest = spec.partition(":")
    boundary, pattern = default_boundary, spec
    if colon and not Path(spec).exists() and prefix.isidentifier():
        if prefix not in BOUNDARIES:
            raise DataError(f"--input {spec}: unknown document boundary {prefix!r}; known: {', '.join(BOUNDARIES)}.")
        boundary, pattern = prefix, rest
    path = Path(pattern)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    elif path.is_file():
        files = [path]
    else:
        files = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    if not files:
        raise DataError(f"--input {spec}: no such file, folder or match of a pattern. Check the path.")
    for file in files:
        if file.stat().st_size == 0:
            raise DataError(f"{file}: the file is empty. Remove it from the input or copy it again.")
    return Source(spec, boundary, tuple(files))


def _lines(path: Path, progress: Callable[[int], object]) -> Iterator[str]:
    """Lines without their ends; a line longer than a document may be comes in parts."""
    rest = ""
    for text in _decoded(path, progress):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line.removesuffix("\r")
        if len(rest) > MAX_DOCUMENT_CHARACTERS and not path.name.removesuffix(".gz").endswith(".jsonl"):
            yield rest
            rest = ""
    if rest:
        yield rest.removesuffix("\r")


def _decoded(path: Path, progress: Callable[[int], object]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, told = 0, 0  # bytes of text; bytes of the file
    try:
        with path.open("rb") as file:
            stream = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            while True:
                chunk = stream.read(_READ_BYTES)
                waiting = len(decoder.getstate()[0])
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    byte = position - waiting + error.start
                    raise DataError(f"{path}: not UTF-8 at byte {byte}. Convert the file to UTF-8.") from None
                yield text.removeprefix("\ufeff") if position == 0 else text
                position += len(chunk)
                progress(file.tell() - told)
                told = file.tell()
                if not chunk:
                    return
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path}: damaged gzip file ({error}). Copy it again.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read the file ({error.strerror}).") from None


def _jsonl(path: Path, lines: Iterable[str], field: str) -> Iterator[tuple[str, list[str]]]:
    for row, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{row}: not JSON ({error}). Each line holds one object.") from None
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise DataError(f"{path}:{row}: no text field {field!r} (found: {found}). Name it with data.text_field.")
        yield "", [record[field]]


def _split_lines(lines: Iterable[str], boundary: str) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each document; both may be empty.

    Headings below the first level are left out: they are no sentences.
    """
    title, gathered, size = "", list[str](), 0
    for line in lines:
        begins, next_title = _boundary(line, boundary)
        if begins or size > MAX_DOCUMENT_CHARACTERS:
            yield title, gathered
            gathered, size = [], 0
            title = next_title if begins else title + "\0"  # marks the continuation of the same document
        if not begins and not (boundary == "heading" and _SUB_HEADING.fullmatch(line)):
            gathered.append(line)
            size += len(line) + 1
    yield title, gathered


def _boundary(line: str, boundary: str) -> tuple[bool, str]:
    """Does a document begin at this line, and what is its title?"""
    if boundary == "doc_marker" and line.startswith(DOC_MARKER):
        return True, line.removeprefix(DOC_MARKER).strip()
    if boundary == "heading" and (heading := _MAIN_HEADING.fullmatch(line)):
        return True, heading[1]
    return boundary == "blank_line" and not line.strip(), ""


def _documents(source: int, path: Path, titled: Iterable[tuple[str, list[str]]]) -> Iterator[RawDocument]:
    ordinal, split_key = 0, 0.0
    for title, lines in titled:
        text = "\n".join(lines).strip()
        if not text:
            continue
        continues = title.endswith("\0")
        if not continues:
            ordinal += 1
            split_key = _share_of(text)
        label = title.rstrip("\0") or f"document {ordinal}"
        part = f" (part {title.count(chr(0)) + 1})" if continues else ""
        yield RawDocument(source, f"{path.name}: {label}{part}", text, split_key)


def _share_of(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:7]) / (1 << 56)
