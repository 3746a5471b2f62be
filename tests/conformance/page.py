"""How do outcomes of tests become docs/conformance.md? A pytest plugin that collects them, and the page it writes."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conformance.numbered import PROJECT, Item

PAGE = PROJECT / "docs" / "conformance.md"
HEAD = """# Conformance

What the embedded server and the exports promise, item by item, and the tests that show it. The statements are drawn
from the source of TensorFlow Serving; the stock binary itself was not run beside ours. Most tests of the protocol run
twice: on models that they make, and on the reference models of TensorFlow Serving where `KERASLLM_TFS_TESTDATA` names
their folder. This page is written by `python -m tests.conformance` from the outcomes of that run; do not edit it.
"""
_LISTED = re.compile(r"^  - `(tests/[^`]+)`: (.*)$", re.MULTILINE)
_NUMBER = re.compile(r"^- \*\*(\d+)\.\*\*", re.MULTILINE)


class Outcomes:
    """A pytest plugin: counts the outcomes of each test's cases, and remembers why cases were skipped.

    Attributes:
      counts: by node id without parameters: how many cases passed, failed or were skipped.
      reasons: of its skipped cases.
    """

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest with the outcome of each phase of each case."""
        node = report.nodeid.partition("[")[0]
        if report.when == "call" or not report.passed:  # a fixture that fails or skips has no call
            self.counts[node][report.outcome] += 1
        if report.skipped and isinstance(report.longrepr, tuple):
            self.reasons[node] = report.longrepr[2].removeprefix("Skipped: ")

    def described(self, node: str) -> str:
        """A test's outcome in words."""
        counts = self.counts[node]
        if not counts:
            return "not run"
        parts = [f"{counts[outcome]} {outcome}" for outcome in ("failed", "passed", "skipped") if counts[outcome]]
        reason = f" ({self.reasons[node]})" if node in self.reasons else ""
        return ("passed" if counts == {"passed": 1} else ", ".join(parts)) + reason


def write_page(items: list[Item], tests: Mapping[str, tuple[int, ...]], outcomes: Outcomes, path: Path = PAGE) -> None:
    """Writes the page: each section, each item, its tests with their outcomes."""
    lines, section = [HEAD], ""
    for item in items:
        if item.section != section:
            section = item.section
            lines += [f"## {section}", ""]
        lines.append(f"- **{item.number}.** {item.says}")
        lines += [
            f"  - `{node}`: {outcomes.described(node)}" for node, numbers in tests.items() if item.number in numbers
        ]
        if item.unshown:
            lines.append(f"  - Not shown: {item.unshown}")
        if lines[-1].startswith("- "):
            lines.append("  - No test.")
        lines.append("")
    path.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


def read_page(path: Path = PAGE) -> dict[int, dict[str, str]]:
    """What a page says: outcome in words by test, by number of the item."""
    text = path.read_text(encoding="utf-8")
    starts = list(_NUMBER.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {
        int(start[1]): dict(_LISTED.findall(text[start.start() : end])) for start, end in zip(starts, ends, strict=True)
    }
