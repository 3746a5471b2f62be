"""Do requests for a real SavedModel share its runs, and get what they would get alone?"""

import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from serving.server.batching import Batching, BatchingEngine
from serving.server.batching_cancellation import on_behalf_of
from serving.server.batching_parameters import BatchingParameters
from serving.server.engine import Engine
from serving.server.status import Code, StatusError

WAIT_S = 60.0
HOUR = 3_600_000_000  # microseconds: such a batch runs when it is full, and not before


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Y = x / 2 + 2 with the number of rows that ran together, and functions whose results cannot be given back."""
    directory = tmp_path_factory.mktemp("batching") / "1"
    matrix = tf.TensorSpec([None, None], tf.float32)
    gate = partial(tf.raw_ops.FIFOQueueV2, component_types=[tf.float32], shared_name="gate")

    def half_plus_two(x):
        return {"y": x / 2 + 2, "rows": tf.fill([tf.shape(x)[0]], tf.shape(x)[0])}

    def gated(x):  # waits for a number from `open`
        return {"y": x + tf.raw_ops.QueueDequeueV2(handle=gate(), component_types=[tf.float32])[0]}

    def open_(x):
        with tf.control_dependencies([tf.raw_ops.QueueEnqueueV2(handle=gate(), components=[x[0]])]):
            return {"y": tf.identity(x)}

    functions = {
        "serving_default": (half_plus_two, {"x": matrix}),
        "sum": (lambda x: {"y": tf.reduce_sum(x)}, {"x": matrix}),
        "column": (lambda x: {"y": tf.reduce_sum(x, 0)}, {"x": matrix}),
        "gated": (gated, {"x": tf.TensorSpec([None], tf.float32)}),
        "open": (open_, {"x": tf.TensorSpec([None], tf.float32)}),
        "number": (lambda s: {"y": tf.strings.to_number(s)}, {"s": tf.TensorSpec([None], tf.string)}),
        "two": (lambda a, b: {"y": a + b}, {"a": matrix, "b": matrix}),
    }
    signatures = {name: tf.function(call).get_concrete_function(**specs) for name, (call, specs) in functions.items()}
    tf.saved_model.save(tf.Module(), str(directory), signatures)
    return directory


@pytest.fixture
def open_engine(saved_model):
    with ExitStack() as opened:

        def open_(per_model=False, directory=saved_model, **parameters):
            batching = Batching(BatchingParameters(**{"num_batch_threads": 1, **parameters}), per_model)
            opened.callback(batching.close)
            return opened.enter_context(closing(batching.load(directory)))

        yield open_


def _ask(engine, signature="serving_default", outputs=None, timeout_s=None, **inputs):
    """The outputs asked for, or the code and text of the refusal."""
    definition = engine.signatures[signature]
    feeds = [(definition.inputs[name].name, np.asarray(value)) for name, value in inputs.items()]
    try:
        return engine.run(feeds, [definition.outputs[name].name for name in outputs or ["y"]], timeout_s)
    except StatusError as error:
        return error.code, error.message


def _ask_together(engine, requests):
    """The answers to requests that come at the same time, in their order."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return [future.result() for future in [pool.submit(_ask, engine, **request) for request in requests]]


class Call:
    """A call of a client, as the transport shows it."""

    def __init__(self, has_ended=False):
        self.waits, self.end, self._has_ended = threading.Event(), None, has_ended

    def add_callback(self, callback):
        self.end = callback
        self.waits.set()
        return not self._has_ended


def _ask_for(call, engine, *arguments, **inputs):
    with on_behalf_of(call):
        return _ask(engine, *arguments, **inputs)


def _rows(*values):
    return np.array(values, np.float32)


def test_two_requests_at_a_time_are_one_run(open_engine):  # [40]
    engine = open_engine(max_batch_size=2, batch_timeout_micros=HOUR)
    requests = [{"x": _rows([value]), "outputs": ["y", "rows"]} for value in (2.0, 4.0)]
    (y1, rows1), (y2, rows2) = _ask_together(engine, requests)
    assert (y1.tolist(), y2.tolist()) == ([[3.0]], [[4.0]])
    assert (rows1.tolist(), rows2.tolist()) == ([2], [2])


def test_outputs_come_in_the_order_asked_for_even_twice(open_engine):
    y, rows, again = _ask(open_engine(), x=_rows([2.0], [4.0]), outputs=["y", "rows", "y"])
    assert (y.tolist(), rows.tolist()) == ([[3.0], [4.0]], [2, 2])
    assert again.tolist() == y.tolist()


def test_requests_for_other_outputs_stand_in_another_queue(open_engine):
    engine = open_engine(max_batch_size=2, batch_timeout_micros=HOUR)
    requests = [{"x": _rows([2.0]), "outputs": [name]} for name in ("y", "rows", "y", "rows")]
    answers = _ask_together(engine, requests)
    assert [answer[0].tolist() for answer in answers] == [[[3.0]], [2], [[3.0]], [2]]


def test_a_batch_is_run_with_an_allowed_number_of_rows(open_engine):  # [45]
    engine = open_engine(max_batch_size=8, allowed_batch_sizes=(4, 8))
    y, rows = _ask(engine, x=_rows([2.0], [4.0]), outputs=["y", "rows"])
    assert (y.tolist(), rows.tolist()) == ([[3.0], [4.0]], [4, 4])


def test_a_last_allowed_size_other_than_the_largest_does_not_load(open_engine):  # [45]
    with pytest.raises(StatusError, match="Last entry in allowed_batch_sizes must match max_batch_size"):
        open_engine(max_batch_size=16, allowed_batch_sizes=(4, 8))


def test_lengths_that_differ_fail_the_batch_with_padding_off(open_engine):  # [43]
    engine = open_engine(max_batch_size=2, batch_timeout_micros=HOUR)
    answers = _ask_together(engine, [{"x": _rows([1.0])}, {"x": _rows([1.0, 2.0])}])
    name = engine.signatures["serving_default"].inputs["x"].name
    assert {code for code, _ in answers} == {Code.FAILED_PRECONDITION}
    assert answers[0][1].startswith(f"Tensors with name '{name}' from different tasks have different shapes")


def test_lengths_that_differ_are_padded_with_padding_on(open_engine):  # [43]
    engine = open_engine(max_batch_size=2, batch_timeout_micros=HOUR, pad_variable_length_inputs=True)
    answers = _ask_together(engine, [{"x": _rows([2.0])}, {"x": _rows([4.0, 6.0])}])
    assert [answer[0].tolist() for answer in answers] == [[[3.0, 3.0]], [[4.0, 5.0]]]


def test_an_odd_type_fails_by_itself(open_engine):
    engine = open_engine(max_batch_size=2, batch_timeout_micros=HOUR)
    good, odd = _ask_together(engine, [{"x": _rows([2.0])}, {"x": np.array([[2]], np.int32)}])
    assert good[0].tolist() == [[3.0]]
    assert odd == (Code.INVALID_ARGUMENT, "Expects arg[0] to be float but int32 is provided")


def test_the_tensors_of_a_refused_request_are_given_back_without_waiting_for_the_garbage_collector(open_engine):
    engine = open_engine(max_batch_size=4)

    def refused():
        text = np.array([b"no number"], object)
        assert _ask(engine, "number", s=text)[0] == Code.INVALID_ARGUMENT
        return weakref.ref(text)

    refused()
    gc.disable()
    try:
        assert refused()() is None
    finally:
        gc.enable()


def test_what_the_session_refuses_is_every_requests_error(open_engine):
    engine = open_engine(max_batch_size=2, batch_timeout_micros=HOUR)
    requests = [{"signature": "number", "s": np.array([text], np.object_)} for text in (b"1", b"one")]
    (code, message), other = _ask_together(engine, requests)
    assert code == Code.INVALID_ARGUMENT
    assert "StringToNumberOp could not correctly convert string: one" in message
    assert other == (code, message)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (
            {"x": np.float32(1.0)},
            (Code.INVALID_ARGUMENT, "Batching Run() input tensors must have at least one dimension"),
        ),
        (
            {"signature": "two", "a": _rows([1.0]), "b": _rows([1.0], [2.0])},
            (Code.INVALID_ARGUMENT, "Batching Run() input tensors must have equal 0th-dimension size"),
        ),
        ({"signature": "sum", "x": _rows([1.0])}, (Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")),
        (
            {"signature": "column", "x": _rows([1.0, 2.0])},
            (
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors",
            ),
        ),
        (
            {"x": np.zeros([9, 1], np.float32)},
            (Code.INVALID_ARGUMENT, "Task size 9 is larger than maximum input batch size 8"),
        ),
    ],
    ids=["scalar", "unequal", "no rows", "other rows", "too large"],
)
def test_what_cannot_be_joined_is_refused_with_the_stock_servers_text(open_engine, request_, answer):  # [41] [44]
    assert _ask(open_engine(max_batch_size=8), **request_) == answer


def test_no_rows_are_an_answer_too(open_engine):
    y, rows = _ask(
        open_engine(max_batch_size=4, allowed_batch_sizes=(4,)), x=np.zeros([0, 1], np.float32), outputs=["y", "rows"]
    )
    assert (y.shape, rows.shape) == ((0, 1), (0,))


def test_a_large_request_is_split_and_put_together_again(open_engine):
    engine = open_engine(max_batch_size=8, max_execution_batch_size=2, enable_large_batch_splitting=True)
    y, rows = _ask(engine, x=_rows([2.0], [4.0], [6.0], [8.0], [10.0]), outputs=["y", "rows"])
    assert (y.tolist(), rows.tolist()) == ([[3.0], [4.0], [5.0], [6.0], [7.0]], [2, 2, 2, 2, 1])


def test_strings_are_split_and_put_together_like_numbers(open_engine):
    engine = open_engine(max_batch_size=8, max_execution_batch_size=2, enable_large_batch_splitting=True)
    texts = np.array([b"1", b"2", b"3"], np.object_)
    assert _ask(engine, "number", s=texts)[0].tolist() == [1.0, 2.0, 3.0]


def test_a_part_that_fails_fails_its_request(open_engine):
    engine = open_engine(max_batch_size=8, max_execution_batch_size=2, enable_large_batch_splitting=True)
    code, message = _ask(engine, "number", s=np.array([b"1", b"2", b"three"], np.object_))
    assert code == Code.INVALID_ARGUMENT
    assert "could not correctly convert string: three" in message
    assert _ask(engine, "number", s=np.array([b"4"], np.object_))[0].tolist() == [4.0]


def test_a_request_whose_time_is_over_is_not_run(open_engine):
    engine = open_engine(max_batch_size=2, batch_timeout_micros=HOUR)
    assert _ask(engine, x=_rows([2.0]), timeout_s=0) == (Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
    late = _ask(engine, x=_rows([2.0]), timeout_s=0.01)
    assert late == (Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
    answers = _ask_together(engine, [{"x": _rows([value]), "outputs": ["rows"]} for value in (1.0, 2.0)])
    assert [answer[0].tolist() for answer in answers] == [[2], [2]]  # and not three, one of them of the late request


@pytest.mark.parametrize("timeout", [0, 1], ids=["by its own thread", "by a batch thread"])
def test_a_run_ends_at_the_deadline(open_engine, timeout):
    answer = _ask(open_engine(batch_timeout_micros=timeout), "gated", x=_rows(0.5), timeout_s=0.05)
    assert answer == (Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")


def test_a_neighbour_with_less_time_leaves_and_the_others_get_their_answers(open_engine):
    engine, call = open_engine(max_batch_size=2, batch_timeout_micros=HOUR, num_batch_threads=2), Call()
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(_ask_for, call, engine, "gated", x=_rows(2.0))
        assert call.waits.wait(WAIT_S)
        hurried = _ask(engine, "gated", x=_rows(1.0), timeout_s=1)  # fills the batch, which waits at the gate
        assert hurried == (Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        _ask(engine, "open", x=_rows(0.5, 0.5))
        assert patient.result()[0].tolist() == [2.5]


def test_a_request_whose_call_is_cancelled_leaves_the_queue(open_engine):
    engine, call = open_engine(max_batch_size=2, batch_timeout_micros=HOUR), Call()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_ask_for, call, engine, x=_rows([2.0]))
        assert call.waits.wait(WAIT_S)
        call.end()
        assert answer.result()[0] == Code.CANCELLED
    answers = _ask_together(engine, [{"x": _rows([value]), "outputs": ["rows"]} for value in (1.0, 2.0)])
    assert [answer[0].tolist() for answer in answers] == [[2], [2]]


def test_a_call_that_has_ended_does_not_wait(open_engine):
    engine, call = open_engine(max_batch_size=2, batch_timeout_micros=HOUR), Call(has_ended=True)
    assert _ask_for(call, engine, x=_rows([2.0]))[0] == Code.CANCELLED


def test_a_version_brings_its_own_parameters(open_engine, saved_model, tmp_path):  # [46]
    own = tmp_path / "1"
    shutil.copytree(saved_model, own)
    (own / "batching_params.pbtxt").write_text("max_batch_size { value: 4 } allowed_batch_sizes: 4")
    engine = open_engine(per_model=True, directory=own, max_batch_size=8)
    assert _ask(engine, x=_rows([2.0]), outputs=["rows"])[0].tolist() == [4]
    assert _ask(engine, x=np.zeros([5, 1], np.float32))[1] == "Task size 5 is larger than maximum input batch size 4"


def test_a_version_without_own_parameters_is_not_batched(open_engine):  # [46]
    engine = open_engine(per_model=True, max_batch_size=1)
    assert type(engine) is Engine
    assert _ask(engine, x=_rows([2.0], [4.0]), outputs=["rows"])[0].tolist() == [2, 2]


def test_a_versions_own_parameters_are_not_looked_at_unless_asked_for(open_engine, saved_model, tmp_path):  # [46]
    own = tmp_path / "1"
    shutil.copytree(saved_model, own)
    (own / "batching_params.pbtxt").write_text("max_batch_size { value: 4 } allowed_batch_sizes: 4")
    assert _ask(open_engine(directory=own), x=_rows([2.0]), outputs=["rows"])[0].tolist() == [1]


def test_own_parameters_that_cannot_be_read_do_not_load(open_engine, saved_model, tmp_path):  # [46]
    own = tmp_path / "1"
    shutil.copytree(saved_model, own)
    (own / "batching_params.pbtxt").write_text("max_batch_size 4")
    with pytest.raises(StatusError, match="Invalid protobuf file"):
        open_engine(per_model=True, directory=own)


def test_warming_up_does_not_wait_for_the_threads_that_answer_requests(saved_model):
    batching = Batching(BatchingParameters(num_batch_threads=1, batch_timeout_micros=0))
    with ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(1))
        opened.callback(batching.close)
        serving, new = (opened.enter_context(closing(batching.load(saved_model))) for _ in range(2))
        answer = pool.submit(_ask, serving, "gated", timeout_s=WAIT_S, x=_rows(1.0))  # has the only thread
        while _ask(serving, x=_rows([2.0]), timeout_s=0.05)[0] != Code.RESOURCE_EXHAUSTED:
            pass
        with new.before_service():
            (y,) = _ask(new, timeout_s=WAIT_S / 2, x=_rows([2.0]))
        assert y.tolist() == [[3.0]]
        with serving.before_service():
            _ask(serving, "open", x=_rows(5.0))
        assert answer.result(WAIT_S)[0].tolist() == [6.0]


def test_closing_lets_the_running_batch_end(saved_model):
    batching = Batching(BatchingParameters(num_batch_threads=1, batch_timeout_micros=1))
    engine = batching.load(saved_model)
    assert isinstance(engine, BatchingEngine)
    late = _ask(engine, "gated", x=_rows(0.5), timeout_s=0.05)  # the batch itself may still be about to end
    engine.close()
    batching.close()
    assert late[0] == Code.DEADLINE_EXCEEDED
