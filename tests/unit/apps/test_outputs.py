"""Does an output appear whole or not at all?"""

import pytest

from apps.outputs import whole_file
from kerasllm.errors import DataError


def test_a_file_appears_when_it_is_whole_in_a_folder_that_is_made(tmp_path):
    output = tmp_path / "new/scored.tsv"
    with whole_file(output) as file:
        print("净利润", file=file)
        assert not output.exists()
    assert output.read_bytes() == "净利润\n".encode()
    assert [path.name for path in output.parent.iterdir()] == ["scored.tsv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    output = tmp_path / "scored.tsv"
    output.write_text("old")

    def fail_half_way():
        with whole_file(output) as file:
            print("half", file=file)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["scored.tsv"]


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"), whole_file(tmp_path / "file/scored.tsv"):
        pass
