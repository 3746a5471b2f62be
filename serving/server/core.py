"""What does each call answer? Requests to responses, without any transport: gRPC and REST handlers stand on top."""

from collections.abc import Callable

from absl import logging
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, model_pb2

from serving.server.examples import DEFAULT_SIGNATURE
from serving.server.inference import Inference, checked_spec, set_spec
from serving.server.model_config import model_configs
from serving.server.status import Code, StatusError, invalid
from serving.server.versions import Models, State

LOAD_ATTEMPTS = "/tensorflow/cc/saved_model/load_attempt_count"  # the metric that a reload moves


class ServerCore(Inference):
    """The calls of PredictionService and ModelService; every refusal is a StatusError with the stock server's text."""

    def __init__(self, models: Models, is_tensor_content: bool = False, is_method_checked: bool = False) -> None:
        """Answers from `models`; the flags are those of `Inference`."""
        super().__init__(models, is_tensor_content, is_method_checked, writes_log=True)
        self._models = models

    def model_names(self) -> list[str]:
        """The names of all models, sorted."""
        return self._models.names()

    def signature_inputs(self, spec: model_pb2.ModelSpec) -> dict[str, meta_graph_pb2.TensorInfo]:
        """The inputs of a signature by alias, which REST needs to read JSON by."""
        key = spec.signature_name or DEFAULT_SIGNATURE
        with self.lend(spec) as (_, engine):
            if key not in engine.signatures:
                raise invalid(f'Serving signature name: "{key}" not found in signature def')
            return dict(engine.signatures[key].inputs)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Tells a model's signatures; the fields asked for are checked before the model is looked for."""
        spec = checked_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.lend(spec) as (number, engine):
            for key, signature in engine.signatures.items():
                signatures.signature_def[key].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        set_spec(response.model_spec, spec.name, number)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Tells the state of one version or of all, newest first; a version label is not looked at."""
        spec = checked_spec(request)
        versions = self._models.versions(spec.name)
        if spec.HasField("version"):
            versions = [version for version in versions if version.number == spec.version.value]
            if not versions:
                raise StatusError(Code.NOT_FOUND, f"Could not find version {spec.version.value} of model {spec.name}")
        if not versions:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            status = response.model_version_status.add(version=version.number, state=int(version.state))
            status.status.SetInParent()
            if version.error is not None and version.state == State.END:  # not while it is tried again
                status.status.error_code = int(version.error.code)
                status.status.error_message = version.error.message
        return response

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, is_awaited: Callable[[], bool] = lambda: True
    ) -> model_management_pb2.ReloadConfigResponse:
        """Takes over another configuration; answers when each new model has a version available.

        Args:
          request: the models, and names of metrics whose increase is told.
          is_awaited: asked now and then; when it says no, nobody waits for the new models any more.
        """
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        attempts = self._models.load_attempts
        self._models.reload(model_configs(request.config, self._models.names()), is_awaited)
        logging.info("Took over another configuration: %s.", ", ".join(self._models.names()) or "no models")
        increases = {LOAD_ATTEMPTS: self._models.load_attempts - attempts}
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=increases.get(name, 0))
        return response
