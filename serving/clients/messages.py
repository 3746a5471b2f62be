"""What goes over the wire? TensorFlow Serving's messages, declared here so that no client needs TensorFlow.

They live in a descriptor pool of their own: a program may import TensorFlow too, and the names do not clash. Only the
fields that clients use are declared; protobuf skips and keeps the others. Names and numbers are those of
tensorflow/core/framework/{tensor,tensor_shape}.proto, tensorflow/core/protobuf/meta_graph.proto and
tensorflow_serving/apis/*.proto.
"""

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_FILE = "kerasllm/serving/clients.proto"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[str, Any] = {
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}
# Message -> its fields, one a line: name, type (`*` repeated, `>` map from string), number. Enums travel as int32.
_MESSAGES = {
    "tensorflow.TensorShapeProto": """
        dim *.tensorflow.TensorShapeDim 2
        unknown_rank bool 3""",
    "tensorflow.TensorShapeDim": """
        size int64 1
        name string 2""",
    "tensorflow.TensorProto": """
        dtype int32 1
        tensor_shape .tensorflow.TensorShapeProto 2
        tensor_content bytes 4
        float_val *float 5
        double_val *double 6
        int_val *int32 7
        string_val *bytes 8
        scomplex_val *float 9
        int64_val *int64 10
        bool_val *bool 11
        dcomplex_val *double 12
        half_val *int32 13
        uint32_val *uint32 16
        uint64_val *uint64 17""",
    "tensorflow.TensorInfo": """
        name string 1
        dtype int32 2
        tensor_shape .tensorflow.TensorShapeProto 3""",
    "tensorflow.SignatureDef": """
        inputs >.tensorflow.TensorInfo 1
        outputs >.tensorflow.TensorInfo 2
        method_name string 3""",
    "tensorflow.serving.ModelSpec": """
        name string 1
        version .google.protobuf.Int64Value 2
        signature_name string 3""",
    "tensorflow.serving.PredictRequest": """
        model_spec .tensorflow.serving.ModelSpec 1
        inputs >.tensorflow.TensorProto 2
        output_filter *string 3""",
    "tensorflow.serving.PredictResponse": """
        outputs >.tensorflow.TensorProto 1
        model_spec .tensorflow.serving.ModelSpec 2""",
    "tensorflow.serving.GetModelMetadataRequest": """
        model_spec .tensorflow.serving.ModelSpec 1
        metadata_field *string 2""",
    "tensorflow.serving.GetModelMetadataResponse": """
        model_spec .tensorflow.serving.ModelSpec 1
        metadata >.google.protobuf.Any 2""",
    "tensorflow.serving.SignatureDefMap": """
        signature_def >.tensorflow.SignatureDef 1""",
    "tensorflow.serving.GetModelStatusRequest": """
        model_spec .tensorflow.serving.ModelSpec 1""",
    "tensorflow.serving.GetModelStatusResponse": """
        model_version_status *.tensorflow.serving.ModelVersionStatus 1""",
    "tensorflow.serving.ModelVersionStatus": """
        version int64 1
        state int32 2
        status .tensorflow.serving.StatusProto 3""",
    "tensorflow.serving.StatusProto": """
        error_code int32 1
        error_message string 2""",
}


def _declare() -> dict[str, Any]:
    """Builds the message classes, one file for each package."""
    pool = descriptor_pool.DescriptorPool()
    for library in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(library.DESCRIPTOR.serialized_pb)
    dependencies = [any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name]
    for package in ("tensorflow", "tensorflow.serving"):
        names = [name for name in _MESSAGES if name.rpartition(".")[0] == package]
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{package}/{_FILE}", package=package, syntax="proto3", dependency=dependencies
        )
        for full_name in names:
            message = file.message_type.add(name=full_name.rpartition(".")[2])
            for line in _MESSAGES[full_name].strip().splitlines():
                _add_field(message, full_name, *line.split())
        pool.Add(file)
        dependencies = [*dependencies, file.name]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in _MESSAGES}


def _add_field(message: Any, full_name: str, name: str, kind: str, number: str) -> None:
    field = message.field.add(name=name, number=int(number), label=_FIELD.LABEL_OPTIONAL)
    if kind.startswith(">"):
        entry_name = "".join(part.title() for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add_field(entry, full_name, "key", "string", "1")
        _add_field(entry, full_name, "value", kind[1:], "2")
        kind = f"*.{full_name}.{entry_name}"
    if kind.startswith("*"):
        field.label = _FIELD.LABEL_REPEATED
        kind = kind[1:]
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, kind


_CLASSES = _declare()
TensorProto: Any = _CLASSES["tensorflow.TensorProto"]
SignatureDefMap: Any = _CLASSES["tensorflow.serving.SignatureDefMap"]
PredictRequest: Any = _CLASSES["tensorflow.serving.PredictRequest"]
PredictResponse: Any = _CLASSES["tensorflow.serving.PredictResponse"]
GetModelMetadataRequest: Any = _CLASSES["tensorflow.serving.GetModelMetadataRequest"]
GetModelMetadataResponse: Any = _CLASSES["tensorflow.serving.GetModelMetadataResponse"]
GetModelStatusRequest: Any = _CLASSES["tensorflow.serving.GetModelStatusRequest"]
GetModelStatusResponse: Any = _CLASSES["tensorflow.serving.GetModelStatusResponse"]
