"""Does work end with the call that it is done for, without piling up what the call has done before?"""

import weakref

from serving.server.batching_cancellation import Wanted, on_behalf_of, when_not_wanted


class Tensor:
    """Something whose life can be watched."""


def test_the_end_of_a_stream_ends_its_newest_part_alone():
    wanted, acts = Wanted(), []
    with on_behalf_of(wanted):
        when_not_wanted(lambda: acts.append("first"))
        when_not_wanted(lambda: acts.append("second"))
    assert acts == []
    wanted.end()
    assert acts == ["second"]


def test_a_part_that_comes_after_the_end_is_given_up_at_once():
    wanted, acts = Wanted(), []
    wanted.end()
    with on_behalf_of(wanted):
        when_not_wanted(lambda: acts.append("late"))
    assert acts == ["late"]
    assert wanted.is_ended


def test_a_stream_keeps_nothing_of_the_parts_before():
    wanted, tensor = Wanted(), Tensor()
    held = weakref.ref(tensor)
    wanted.add_callback(lambda tensor=tensor: None)
    del tensor
    wanted.add_callback(lambda: None)
    assert held() is None
