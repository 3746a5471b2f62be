"""Which models does a ModelServerConfig file name? The text proto of the stock server, read and checked."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.server.status import Code, StatusError, invalid
from serving.server.versions import ModelConfig


def read_model_configs(path: str) -> list[ModelConfig]:
    """The models of a ModelServerConfig in text form.

    Raises:
      StatusError: not such a file, or something in it that cannot be served.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise StatusError(Code.NOT_FOUND, f"{path}: cannot read the model configuration ({error.strerror}).") from error
    try:
        parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error
    configs = [_model_config(config) for config in parsed.model_config_list.config]
    if not configs:
        raise invalid(f"{path}: names no model. Add model_config_list {{ config {{ name, base_path }} }}.")
    names = [config.name for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"Illegal to list model {name} multiple times in config list")
    return configs


def _model_config(config: model_server_config_pb2.ModelConfig) -> ModelConfig:
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
    if config.model_platform not in ("", "tensorflow"):
        raise invalid(f"Model {config.name} requests unsupported platform {config.model_platform}")
    if config.HasField("logging_config"):
        raise invalid("No request-logger-creator provided.")
    if config.version_labels:
        raise StatusError(Code.UNIMPLEMENTED, f"Model {config.name}: this server offers no version_labels yet.")
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return ModelConfig(config.name, Path(config.base_path), latest=None)
    if kind == "specific":
        return ModelConfig(config.name, Path(config.base_path), specific=tuple(policy.specific.versions))
    return ModelConfig(config.name, Path(config.base_path), latest=policy.latest.num_versions or 1)
