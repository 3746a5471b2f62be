"""What does the server promise, and is it so? Runs every test that carries a number and writes docs/conformance.md.

python -m tests.conformance [arguments of pytest]

Takes a few minutes; exit code 1 if a test failed, and the page says which.
"""

import os
import sys

import pytest

from tests.conformance.numbered import PROJECT, items, numbered_tests
from tests.conformance.page import PAGE, Outcomes, write_page


def main() -> int:
    """Runs and writes; returns pytest's exit code."""
    os.chdir(PROJECT)
    tests, outcomes = numbered_tests(), Outcomes()
    code = pytest.main([*tests, "-q", *sys.argv[1:]], plugins=[outcomes])
    write_page(items(), tests, outcomes)
    print(f"{PAGE.relative_to(PROJECT)}: {len(tests)} tests")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
