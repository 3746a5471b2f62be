"""How do tests of streaming serve a GPT? A tiny one with random weights, over gRPC and HTTP, in this process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LINES = ["the cat sat on the mat. 你好世界 😀", "profit rose by ten percent today. 今天公司利润上升", "ABC 0123456789"]
MAX_LENGTH = 48
NAME = "gpt"


def make_signatures() -> Any:
    """The signatures of a model whose texts are of many different words."""
    from kerasllm.export.generation import GenerationSignatures
    from kerasllm.models import GPTBackbone, GPTCausalLM
    from kerasllm.text import train_sentencepiece

    tokenizer = train_sentencepiece(LINES * 30, 360)
    sizes = {"num_layers": 2, "hidden_dim": 16, "num_heads": 2, "max_length": MAX_LENGTH}
    model = GPTCausalLM(GPTBackbone(tokenizer.vocab_size, **sizes))
    random = np.random.default_rng(3)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.5, weight.shape))
    return GenerationSignatures(model, tokenizer)


def save_gpt(signatures: Any, directory: Path, chat_template: dict[str, Any] | None = None) -> None:
    """The version's folder as the exporter lays it out, without its checks."""
    import tensorflow as tf

    from kerasllm.export.streaming import STREAMING, STREAMING_FILE

    tf.saved_model.save(signatures, str(directory), signatures=signatures.signatures())
    extra = directory / "assets.extra"
    extra.mkdir()
    (extra / STREAMING_FILE).write_text(json.dumps(STREAMING), encoding="utf-8")
    if chat_template is not None:
        (extra / "chat_template.json").write_text(json.dumps(chat_template), encoding="utf-8")


class GptService:
    """A server in this process: its ports, and what it counts."""

    def __init__(self, folders: dict[str, Path], max_batch_size: int = 0, logs_prompts: bool = False) -> None:
        from serving.server.batching import Batching
        from serving.server.batching_parameters import BatchingParameters
        from serving.server.core import ServerCore
        from serving.server.engine import Engine
        from serving.server.metrics import Metrics
        from serving.server.openai_api import OpenAiApi
        from serving.server.rest import RestApi
        from serving.server.rest_server import RestOptions, RestServer
        from serving.server.services import start_server
        from serving.server.streaming_service import streaming_service
        from serving.server.streams import Streams
        from serving.server.versions import LoadPolicy, ModelConfig, Models

        self.folders = folders
        self.batches: list[list[int]] = []  # rows of each task of each batch
        self.metrics = Metrics()
        parameters = BatchingParameters(max(1, max_batch_size), 1000, num_batch_threads=1)
        self._batching = Batching(parameters, on_batch=lambda sizes, *_: self.batches.append(list(sizes)))
        load = self._batching.load if max_batch_size else Engine
        configs = [ModelConfig(name, folder) for name, folder in folders.items()]
        self.models = Models(configs, load=load, policy=LoadPolicy(rest_seconds=0))
        self.models.start(0)
        self.core = core = ServerCore(self.models)
        self.streams = Streams(core, self.metrics)
        services = [streaming_service(self.streams, self.metrics)]
        self._server, self.port = start_server(core, "127.0.0.1", 0, 24, services=services)
        api = RestApi(core, streams=self.streams, others=[OpenAiApi(self.streams, core.model_names, logs_prompts)])
        self._rest = RestServer(api, "127.0.0.1", 0, RestOptions(num_threads=8), self.metrics)
        self.rest_port = self._rest.port

    def counted(self, name: str) -> float:
        """The sum of a metric of ours over its labels."""
        lines = self.metrics.page().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f":kerasllm:serving:{name}{{"))

    def close(self) -> None:
        self._rest.close()
        self._server.stop(None).wait()
        self.models.close()
        self._batching.close()


@contextmanager
def gpt_service(folders: dict[str, Path], **options: Any) -> Iterator[GptService]:
    service = GptService(folders, **options)
    try:
        yield service
    finally:
        service.close()
