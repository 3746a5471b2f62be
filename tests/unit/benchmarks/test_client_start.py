"""Does the benchmark of a client's start measure programs that were answered, each in a process of its own?"""

import pytest

from benchmarks import client_start


@pytest.fixture(scope="module")
def measured():
    tell = "held = bytearray({} * 2**20)" + client_start.TOLD
    return client_start.measure({"ours": tell.format(1), "stock": tell.format(64)}, rounds=2)


def test_memory_is_that_of_the_program_and_not_of_the_one_that_started_it(measured):
    assert [len(starts) for starts in measured.values()] == [2, 2]
    for ours, stock in zip(measured["ours"], measured["stock"], strict=True):
        assert 56 < stock.megabytes - ours.megabytes < 72
        assert ours.cpu_s > 0
        assert ours.wall_s > 0


def test_the_table_has_ratios_to_ours_and_tells_of_the_bar(measured, capsys):
    client_start.print_table(measured)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["ours", "s"]
    assert lines[1].split()[-1] == "1.00"
    assert [line.split()[0] for line in lines[-2:]] == ["bar:", "bar:"]
