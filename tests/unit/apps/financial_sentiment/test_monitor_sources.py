"""Where do lines come from? Files that grow, are replaced, or lie in a folder; standard input through a spool."""

import io
import os
import time

import pytest

from apps.financial_sentiment.monitoring.sources import Files, Spool
from kerasllm.errors import DataError


def contents(lines):
    return [line.content.decode() for line in lines]


def drained(spool):
    """All lines of a spool whose stream ends."""
    lines = []
    while True:
        has_ended = spool.has_ended
        found = spool.read(100)
        lines += contents(found)
        if has_ended and not found:
            return lines
        time.sleep(0.005)


def test_reading_goes_on_where_the_positions_stand(tmp_path):
    (tmp_path / "a.jsonl").write_text("1\n2\n3\n")
    positions = {}
    assert contents(Files(tmp_path / "a.jsonl", positions, grows=True).read(2)) == ["1", "2"]
    (line,) = Files(tmp_path / "a.jsonl", positions, grows=True).read(9)
    assert (line.content, line.number, line.file) == (b"3", 3, "a.jsonl")


def test_a_last_line_without_its_end_waits_in_a_growing_file_and_counts_in_a_finished_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("1\n2")
    growing = Files(path, {}, grows=True)
    assert contents(growing.read(9)) == ["1"]
    path.write_text("1\n22\n")
    assert contents(growing.read(9)) == ["22"]
    path.write_text("1\n2")
    assert contents(Files(path, {}, grows=False).read(9)) == ["1", "2"]


@pytest.mark.parametrize("content", ["x\ny\nz\nlonger\n", "x\n"])
def test_a_file_replaced_by_another_is_read_from_its_beginning(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text("1\n2\n3\n")
    source = Files(path, {}, grows=True)
    source.read(9)
    (tmp_path / "new").write_text(content)
    os.replace(tmp_path / "new", path)
    assert contents(source.read(9)) == content.split()


def test_a_file_that_is_away_for_a_while_is_waited_for(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("1\n")
    source = Files(path, {}, grows=True)
    source.read(9)
    path.rename(tmp_path / "a.jsonl.1")
    assert source.read(9) == []
    path.write_text("7\n")
    assert contents(source.read(9)) == ["7"]


def test_a_folder_is_read_in_the_order_of_names_with_a_header_per_table(tmp_path):
    (tmp_path / "b.jsonl").write_text("3\n")
    (tmp_path / "a.tsv").write_text("time\ttext\n1\tx\n2\ty\n")
    (tmp_path / "c.md").write_text("no input\n")
    positions = {}
    first = Files(tmp_path, positions, grows=True).read(2)
    assert [(line.content, line.number, line.columns) for line in first] == [
        (b"1\tx", 2, ("time", "text")),
        (b"2\ty", 3, ("time", "text")),
    ]
    (tmp_path / "d.jsonl").write_text("4\n")
    assert contents(Files(tmp_path, positions, grows=True).read(9)) == ["3", "4"]


def test_an_unknown_file_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        Files(tmp_path / "a.jsonl", {}, grows=True)
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match="unknown ending '.csv'"):
        Files(tmp_path / "a.csv", {}, grows=True)


def test_a_spool_gives_again_after_a_restart_what_was_not_marked_as_read(tmp_path):
    first = Spool(tmp_path, {}, io.BytesIO(b"1\n2\n3"))
    assert drained(first) == ["1", "2", "3"]  # its positions are lost: killed before the commit
    positions = {}
    second = Spool(tmp_path, positions, io.BytesIO(b"4\n"))
    assert drained(second) == ["1", "2", "3", "4"]
    second.forget()
    assert list(tmp_path.iterdir()) == []
    third = Spool(tmp_path, positions, io.BytesIO(b"5\n"))  # under a new name, since positions hold the old ones
    assert drained(third) == ["5"]


def test_a_line_torn_in_the_spool_is_ended_so_that_the_next_one_is_whole(tmp_path):
    (tmp_path / "00000001.jsonl").write_bytes(b"1\n2 tor")
    assert drained(Spool(tmp_path, {}, io.BytesIO(b"3\n"))) == ["1", "2 tor", "3"]


def test_what_a_spool_holds_is_for_its_owner_alone(tmp_path):
    spool = Spool(tmp_path, {}, io.BytesIO(b"1\n"))
    drained(spool)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
