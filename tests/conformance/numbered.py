"""Which tests show which items of the protocol? The list of items, and the numbers that tests carry in brackets."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]
_NUMBER = re.compile(r"\[(\d{1,2})\]")
_COMMENT = re.compile(r"#((?:\s*\[\d{1,2}\])+)\s*$")  # nothing but numbers: `x  # see [3]` in a signature is none


@dataclass(frozen=True)
class Item:
    """One claim about the server.

    Attributes:
      says: the claim.
      unshown: what of it no test shows, and why; mostly "".
    """

    number: int
    section: str
    says: str
    unshown: str = ""


def items() -> list[Item]:
    """The list, in its order."""
    sections = yaml.safe_load(Path(__file__).with_name("items.yaml").read_text(encoding="utf-8"))
    return [
        Item(number, section["section"], **claim) for section in sections for number, claim in section["items"].items()
    ]


def numbered_tests(project: Path = PROJECT) -> dict[str, tuple[int, ...]]:
    """Numbers by the node id of the test that carries them (`tests/a.py::test_b`, without parameters), sorted."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted((project / "tests").rglob("test_*.py")):
        for name, numbers in _numbers_of(path.read_text(encoding="utf-8")):
            found[f"{path.relative_to(project).as_posix()}::{name}"] = numbers
    return found


def _numbers_of(source: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
            continue
        header = lines[node.lineno - 1 : node.body[0].lineno - 1]
        told = "".join(comment[1] for line in header if (comment := _COMMENT.search(line)))
        told += " " + (ast.get_docstring(node) or "")
        numbers = tuple(sorted({int(number) for number in _NUMBER.findall(told)}))
        if numbers:
            yield node.name, numbers
