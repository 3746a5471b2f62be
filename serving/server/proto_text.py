"""How are the stock server's configuration messages read that tensorflow-serving-api leaves out?

Each is declared field by field in a pool of its own, so that a program that brings the real one is not in its way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from serving.server.status import Code, StatusError, invalid

_PACKAGE = "tensorflow.serving"


def read_text_message(path: str, name: str, fields: Mapping[str, Any]) -> Any:
    """The message tensorflow.serving.NAME in a text file.

    Args:
      path: of the file.
      name: of the message.
      fields: their names with number and type, such as {"server_key": (1, FieldDescriptorProto.TYPE_STRING)}.

    Raises:
      StatusError: NOT_FOUND or INVALID_ARGUMENT.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=_PACKAGE, syntax="proto3")
    message = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
        message.field.add(name=field, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message_class = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message_class())
    except OSError as error:
        raise StatusError(Code.NOT_FOUND, f"{path}: cannot read it ({error.strerror}).") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error
