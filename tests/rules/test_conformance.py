"""Does docs/conformance.md tell of every item of the protocol and of every test that shows it?"""

import pytest

from tests.conformance.numbered import items, numbered_tests
from tests.conformance.page import Outcomes, read_page, write_page

AGAIN = "Run `python -m tests.conformance` and commit docs/conformance.md."


def test_every_item_has_a_test_and_every_number_an_item():
    known = [item.number for item in items()]
    assert known == list(range(1, len(known) + 1))
    shown = {number for numbers in numbered_tests().values() for number in numbers}
    assert sorted(shown) == known, "a test carries a number that tests/conformance/items.yaml lacks, or an item no test"


def test_the_page_lists_the_tests_that_there_are_under_their_numbers():
    listed = {(number, node) for number, tests in read_page().items() for node in tests}
    carried = {(number, node) for node, numbers in numbered_tests().items() for number in numbers}
    assert listed == carried, f"{sorted(listed ^ carried)}: {AGAIN}"


def test_the_page_tells_of_no_test_that_failed_or_was_not_run():
    bad = {node: told for tests in read_page().values() for node, told in tests.items() if "passed" not in told}
    assert not bad, f"{bad}: mend it. {AGAIN}"
    failed = [node for tests in read_page().values() for node, told in tests.items() if "failed" in told]
    assert not failed, f"{failed}: mend it. {AGAIN}"


def test_numbers_are_read_from_the_def_line_and_the_docstring_and_nowhere_else(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        "def test_by_comment(a=[9]):  # [3] [31]\n    x = [4]  # [5]\n\n\n"
        "def test_by_docstring():\n    '''[7].'''\n\n\n"
        "def test_over_lines(\n    a,  # such as [8], no more\n    b,\n):  # [6]\n    pass\n\n\n"
        "def helper():  # [2]\n    pass\n\n\ndef test_without():\n    pass\n"
    )
    assert numbered_tests(tmp_path) == {
        "tests/test_a.py::test_by_comment": (3, 31),
        "tests/test_a.py::test_by_docstring": (7,),
        "tests/test_a.py::test_over_lines": (6,),
    }


def test_a_page_tells_passed_failed_and_skipped_cases_and_what_was_not_run(tmp_path):
    outcomes = Outcomes()
    tests = {"tests/test_a.py::test_a": (1,), "tests/test_a.py::test_b": (1, 2), "tests/test_a.py::test_c": (3,)}
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('x', [1, 2, 3])\ndef test_a(x):\n    assert x != 2\n\n"
        "@pytest.fixture(params=['own', 'stock'])\ndef model(request):\n"
        "    if request.param == 'stock':\n        pytest.skip('no models')\n\n"
        "def test_b(model):\n    pass\n"
    )
    pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)], plugins=[outcomes])
    write_page(items()[:3], tests, outcomes, tmp_path / "page.md")
    assert read_page(tmp_path / "page.md") == {
        1: {
            "tests/test_a.py::test_a": "1 failed, 2 passed",
            "tests/test_a.py::test_b": "1 passed, 1 skipped (no models)",
        },
        2: {"tests/test_a.py::test_b": "1 passed, 1 skipped (no models)"},
        3: {"tests/test_a.py::test_c": "not run"},
    }
