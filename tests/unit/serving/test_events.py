"""How has a stream of events ended, as far as its client has seen?"""

import pytest

from serving.server.events import Events, Last
from serving.server.status import Code


@pytest.mark.parametrize("code", [Code.OK, Code.INTERNAL])
def test_a_client_that_leaves_with_the_last_event_has_had_all_of_it(code):
    events = Events(iter_of(b"a", Last(b"b", code)))
    assert events.next() == b"a"
    assert events.code == Code.CANCELLED
    assert events.next() == b"b"
    events.close()
    assert events.code == code


def test_a_stream_without_a_last_event_ends_well_when_there_are_no_more():
    events = Events(iter_of(b"a"))
    assert [events.next(), events.next()] == [b"a", None]
    assert events.code == Code.OK


def test_a_stream_that_is_left_before_its_end_is_cancelled():
    events = Events(iter_of(b"a", b"b"))
    events.next()
    events.close()
    assert events.code == Code.CANCELLED


def iter_of(*events):
    yield from events
