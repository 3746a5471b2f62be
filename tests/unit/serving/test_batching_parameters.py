"""Are BatchingParameters files read as the stock server reads them, and refused for the same reasons?"""

import pytest

from serving.server.batching_parameters import BatchingParameters, read_batching_parameters
from serving.server.status import Code, StatusError


def _read(tmp_path, text):
    path = tmp_path / "batching.txt"
    path.write_text(text)
    return read_batching_parameters(path)


def test_every_parameter_of_the_stock_text_is_read(tmp_path):  # [39]
    parameters = _read(
        tmp_path,
        "max_batch_size { value: 128 }  # rows\n"
        "batch_timeout_micros { value: 0 }\n"
        "max_enqueued_batches { value: 1000000 }\n"
        "num_batch_threads { value: 8 }\n"
        'thread_pool_name { value: "mine" }\n'
        "allowed_batch_sizes: 8\nallowed_batch_sizes: 128\n"
        "pad_variable_length_inputs: true\n"
        "enable_large_batch_splitting { value: true }\n"
        "max_execution_batch_size { value: 64 }\n",
    )
    assert parameters == BatchingParameters(128, 0, 1_000_000, 8, "mine", (8, 128), True, True, 64)


def test_what_is_not_said_has_the_stock_servers_default(tmp_path):
    parameters = _read(tmp_path, "")
    assert parameters == BatchingParameters()
    assert (parameters.max_batch_size, parameters.batch_timeout_micros, parameters.max_enqueued_batches) == (
        1000,
        0,
        10,
    )
    assert parameters.num_batch_threads >= 1


def test_a_value_of_zero_is_not_the_default(tmp_path):
    assert _read(tmp_path, "num_batch_threads { value: 0 }").num_batch_threads == 0


def test_a_text_with_an_unknown_field_is_refused_with_its_place(tmp_path):
    with pytest.raises(StatusError) as caught:
        _read(tmp_path, "max_batch_sizes { value: 1 }")
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(f"Invalid protobuf file: '{tmp_path / 'batching.txt'}' (1:1")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StatusError, match="none.txt: cannot read the batching parameters"):
        read_batching_parameters(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"max_batch_size": 16, "allowed_batch_sizes": (4, 8)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 16",
        ),
        ({"max_batch_size": 0}, "input_batch_size_limit must be positive; was 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
        (
            {"max_enqueued_batches": 0, "enable_large_batch_splitting": True},
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            {"max_batch_size": 4, "max_execution_batch_size": 8, "enable_large_batch_splitting": True},
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            "max_execution_batch_size. (4 < 8)",
        ),
    ],
)
def test_parameters_that_no_queue_can_work_with_are_refused(parameters, message):  # [45]
    with pytest.raises(StatusError) as caught:
        BatchingParameters(**parameters).check_queue()
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def test_no_room_in_the_queue_is_taken_for_one_batch_as_in_the_stock_server():
    BatchingParameters(max_enqueued_batches=0).check_queue()


def test_a_pool_without_threads_is_refused():
    with pytest.raises(StatusError, match="num_batch_threads must be positive; was 0"):
        BatchingParameters(num_batch_threads=0).check_threads()


def test_sizes_are_rounded_up_to_the_next_allowed_one():  # [45]
    parameters = BatchingParameters(max_batch_size=16, allowed_batch_sizes=(4, 16))
    assert [parameters.padded_size(size) for size in (1, 4, 5, 16)] == [4, 4, 16, 16]
    assert BatchingParameters().padded_size(5) == 5


def test_the_execution_size_holds_with_splitting_only():
    assert BatchingParameters(8, max_execution_batch_size=4).execution_batch_size == 8
    assert (
        BatchingParameters(8, max_execution_batch_size=4, enable_large_batch_splitting=True).execution_batch_size == 4
    )
    assert BatchingParameters(8, enable_large_batch_splitting=True).execution_batch_size == 8
