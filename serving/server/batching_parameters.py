"""How are requests to be joined? The stock server's BatchingParameters in text form, read and checked."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from serving.server.status import Code, StatusError, invalid

_FIELD = descriptor_pb2.FieldDescriptorProto
_INT64, _BOOL, _STRING = (f".google.protobuf.{name}" for name in ("Int64Value", "BoolValue", "StringValue"))
# Names and numbers of tensorflow_serving/servables/tensorflow/session_bundle_config.proto.
_FIELDS: dict[str, tuple[int, Any, str]] = {
    "max_batch_size": (1, _FIELD.TYPE_MESSAGE, _INT64),
    "batch_timeout_micros": (2, _FIELD.TYPE_MESSAGE, _INT64),
    "max_enqueued_batches": (3, _FIELD.TYPE_MESSAGE, _INT64),
    "num_batch_threads": (4, _FIELD.TYPE_MESSAGE, _INT64),
    "thread_pool_name": (5, _FIELD.TYPE_MESSAGE, _STRING),
    "allowed_batch_sizes": (6, _FIELD.TYPE_INT64, ""),
    "pad_variable_length_inputs": (7, _FIELD.TYPE_BOOL, ""),
    "enable_large_batch_splitting": (8, _FIELD.TYPE_MESSAGE, _BOOL),
    "max_execution_batch_size": (9, _FIELD.TYPE_MESSAGE, _INT64),
}


@dataclass(frozen=True)
class BatchingParameters:
    """The stock server's parameters under their own names, with its defaults; sizes count rows, not requests.

    `max_execution_batch_size` holds with `enable_large_batch_splitting` only; None: as `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: _num_schedulable_cpus())
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @property
    def execution_batch_size(self) -> int:
        """The most rows that run at once."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded_size(self, size: int) -> int:
        """The number of rows that a batch of `size` rows is run with."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)

    def check_queue(self) -> None:
        """Refuses what no queue can work with; the stock server finds it when it loads a model.

        Raises:
          StatusError: INVALID_ARGUMENT with the stock server's text.
        """
        if self.allowed_batch_sizes and self.allowed_batch_sizes[-1] != self.max_batch_size:
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{self.allowed_batch_sizes[-1]}; expected {self.max_batch_size}"
            )
        if self.max_batch_size < 1:
            raise invalid(f"input_batch_size_limit must be positive; was {self.max_batch_size}")
        if self.batch_timeout_micros < 0:
            raise invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        if self.max_enqueued_batches < (1 if self.enable_large_batch_splitting else 0):
            raise invalid(f"max_enqueued_batches must be positive; was {self.max_enqueued_batches}")
        if self.execution_batch_size < 1:
            raise invalid(f"max_execution_batch_size must be positive; was {self.execution_batch_size}")
        if self.execution_batch_size > self.max_batch_size:
            raise invalid(
                "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
                f"max_execution_batch_size. ({self.max_batch_size} < {self.execution_batch_size})"
            )

    def check_threads(self) -> None:
        """Refuses a pool without threads; the stock server finds it when it starts.

        Raises:
          StatusError: INVALID_ARGUMENT with the stock server's text.
        """
        if self.num_batch_threads < 1:
            raise invalid(f"num_batch_threads must be positive; was {self.num_batch_threads}")


def read_batching_parameters(path: str | Path) -> BatchingParameters:
    """The parameters of a text file; what it does not name keeps its default.

    Raises:
      StatusError: the file cannot be read, or is not BatchingParameters in text form.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise StatusError(Code.NOT_FOUND, f"{path}: cannot read the batching parameters ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error
    try:
        parsed = text_format.Parse(text, _message_class()())
    except text_format.ParseError as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error
    values: dict[str, Any] = {}
    for field_of_file, value in parsed.ListFields():
        if field_of_file.name == "allowed_batch_sizes":
            values[field_of_file.name] = tuple(value)
        else:
            values[field_of_file.name] = value if field_of_file.message_type is None else value.value
    return BatchingParameters(**values)


def _num_schedulable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _message_class() -> Any:
    """The message in a descriptor pool of its own, as tensorflow-serving-api does not have it; another may, later."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="kerasllm/serving/batching.proto", package="tensorflow.serving", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for name, (number, kind, type_name) in _FIELDS.items():
        label = _FIELD.LABEL_REPEATED if name == "allowed_batch_sizes" else _FIELD.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, type_name=type_name or None, label=label)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))
