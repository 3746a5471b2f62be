"""Which models does a ModelServerConfig name? The text proto of the stock server, read and checked."""

from collections.abc import Collection
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.server.status import Code, StatusError, invalid
from serving.server.versions import ModelConfig

PLATFORM = "tensorflow"


def read_model_configs(path: str) -> list[ModelConfig]:
    """The models of a ModelServerConfig in text form.

    Raises:
      StatusError: not such a file, or something in it that cannot be served.
    """
    configs = model_configs(parse_model_server_config(path))
    if not configs:
        raise invalid(f"{path}: names no model. Add model_config_list {{ config {{ name, base_path }} }}.")
    return configs


def parse_model_server_config(path: str) -> model_server_config_pb2.ModelServerConfig:
    """The message in a text file.

    Raises:
      StatusError: NOT_FOUND or INVALID_ARGUMENT.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise StatusError(Code.NOT_FOUND, f"{path}: cannot read the model configuration ({error.strerror}).") from error
    try:
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error


def model_configs(parsed: model_server_config_pb2.ModelServerConfig, served: Collection[str] = ()) -> list[ModelConfig]:
    """The models of a configuration; it may be empty.

    Args:
      parsed: the message.
      served: names of the models before it; they may not change their platform.

    Raises:
      StatusError: something in it cannot be served.
    """
    listed = parsed.model_config_list.config
    names = [config.name for config in listed]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"Illegal to list model {name} multiple times in config list")
    return [_model_config(config, config.name in served) for config in listed]


def _model_config(config: model_server_config_pb2.ModelConfig, is_served: bool) -> ModelConfig:
    if not config.name:
        raise invalid("A model in the config list has no name.")
    if not Path(config.base_path).is_absolute():
        raise invalid(
            f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
        )
    if not config.model_platform and not config.model_type:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {config.name}"
        )
    if config.model_platform not in ("", PLATFORM):
        if is_served:
            raise invalid(
                f"Illegal to change a model's platform. For model {config.name} platform was {PLATFORM} and new "
                f"platform requested is {config.model_platform}"
            )
        raise invalid(f"Model {config.name} requests unsupported platform {config.model_platform}")
    if config.HasField("logging_config"):
        raise invalid("No request-logger-creator provided.")
    name, base_path, labels = config.name, Path(config.base_path), dict(config.version_labels)
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return ModelConfig(name, base_path, latest=None, labels=labels)
    if kind == "specific":
        return ModelConfig(name, base_path, specific=tuple(policy.specific.versions), labels=labels)
    return ModelConfig(name, base_path, latest=policy.latest.num_versions or 1, labels=labels)
