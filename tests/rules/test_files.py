"""Does every file of the project keep the project's form? Docstrings, configurations, and nothing of one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from kerasllm.config import load_run

PROJECT = Path(__file__).parents[2]
THIS_FILE = Path(__file__).relative_to(PROJECT).as_posix()
PYTHON_FOLDERS = ("kerasllm", "apps", "serving", "tests", "benchmarks")
MARKS = {
    "path of one machine": re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/"),
    "left-over mark": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    "conflict mark": re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE),
    "stopped in a debugger": re.compile(r"\b(?:breakpoint\(\)|pdb\.set_trace\(\))"),
}


def tracked_files() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"not a git checkout, so there is no list of files: {done.stderr.strip()}")
    return [name for name in done.stdout.splitlines() if (PROJECT / name).is_file()]


def python_files() -> list[str]:
    paths = (path for folder in PYTHON_FOLDERS for path in (PROJECT / folder).rglob("*.py"))
    return sorted(path.relative_to(PROJECT).as_posix() for path in paths)


def configurations() -> list[str]:
    return sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "configs").rglob("*.yaml"))


def test_every_python_file_starts_by_saying_what_it_answers():
    silent = [name for name in python_files() if not ast.get_docstring(ast.parse((PROJECT / name).read_text("utf-8")))]
    assert not silent, f"{silent}: start each with a docstring that says which question the file answers."


def test_no_file_is_called_utils():
    found = [name for name in python_files() if Path(name).stem in ("utils", "util", "helpers", "common", "misc")]
    assert not found, f"{found}: name a file after the question it answers."


def test_nothing_of_one_machine_and_no_left_over_mark_is_kept():
    findings = []
    for name in tracked_files():
        if name == THIS_FILE:
            continue
        try:
            text = (PROJECT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, mark in MARKS.items():
            found = mark.search(text)
            if found:
                findings.append(f"{name}:{text[: found.start()].count(chr(10)) + 1}: {what}: {found.group()!r}")
    assert not findings, "\n".join(findings)


def test_no_large_file_is_kept():
    large = [name for name in tracked_files() if (PROJECT / name).stat().st_size > 1_000_000]
    assert not large, f"{large}: data and weights are made or fetched, not kept."


@pytest.mark.parametrize("name", configurations())
def test_a_configuration_can_be_read_and_says_how_to_run_it_and_what_to_expect(name):
    load_run(PROJECT / name)
    header = re.match(r"(?:#.*\n)+", (PROJECT / name).read_text(encoding="utf-8"))
    assert header, f"{name}: starts with no comment. Its header is its lab note: purpose, Run:, Expect:."
    for word in ("Run:", "Expect:"):
        assert word in header.group(), f"{name}: the header has no '{word}' line."


@pytest.mark.parametrize("name", configurations())
def test_the_command_in_a_configuration_s_header_names_its_own_file_and_a_program_there_is(name):
    text = (PROJECT / name).read_text(encoding="utf-8")
    command = re.search(r"Run:.*?-m ([\w.]+)(.*)", text)
    if command is None:
        pytest.skip(f"{name} is not run by a program of its own")
    assert (PROJECT / f"{command.group(1).replace('.', '/')}.py").is_file()
    assert name in text, f"{name}: the Run: line names another file."


def test_scripts_are_executable():
    scripts = [*(PROJECT / "scripts").iterdir(), PROJECT / ".ci/run"]
    dull = [path.name for path in scripts if path.is_file() and not path.stat().st_mode & 0o100]
    assert not dull, f"{dull}: chmod +x."


@pytest.mark.parametrize(
    "path", sorted(path for path in (PROJECT / "scripts").rglob("*") if path.is_file()), ids=lambda path: path.name
)
def test_shell_scripts_can_be_parsed(path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
