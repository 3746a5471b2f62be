"""Is a text the same in the process, on the server and in a version-1 Session, alone and in a batch?"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from serving.clients import PredictClient, Sampling

LINES = ["the cat sat on the mat. 你好世界 😀", "profit rose by ten percent today. 今天公司利润上升", "ABC 0123456789"]
PROMPTS = ["the cat", "今天", "", "profit 😀", "ABC 012", "mat. 你好", "ten percent", "s"]
NEW, LONGEST = 20, 40
CLOSE = 1e-4  # two best logits that other kernels may order in another way
SETTINGS = {
    "greedy": Sampling(NEW),
    "sampled": Sampling(NEW, temperature=1.0, seed=11),
    "narrowed": Sampling(NEW, temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=12),
}
Generate = Callable[[dict[str, np.ndarray]], list[str]]


@pytest.fixture(scope="module")
def model() -> Any:
    from kerasllm.models import GPTBackbone, GPTCausalLM
    from kerasllm.text import train_sentencepiece

    tokenizer = train_sentencepiece(LINES * 30, 360)
    sizes = {"num_layers": 2, "hidden_dim": 64, "num_heads": 4, "num_key_value_heads": 2, "max_length": LONGEST}
    model = GPTCausalLM(GPTBackbone(tokenizer.vocab_size, positions="rotary", norm="rms_norm", **sizes))
    random = np.random.default_rng(5)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.3, weight.shape))
    return model, tokenizer


@pytest.fixture(scope="module")
def places(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Generate]]:
    import tensorflow as tf

    from kerasllm.export.generation import GenerationSignatures
    from serving.server.core import ServerCore
    from serving.server.services import start_server
    from serving.server.versions import LoadPolicy, ModelConfig, Models

    signatures, folder = GenerationSignatures(*model), tmp_path_factory.mktemp("exports") / "gpt"
    own = signatures.signature("generate")
    tf.saved_model.save(signatures, str(folder / "1"), signatures={"generate": own})
    models = Models([ModelConfig("gpt", folder)], policy=LoadPolicy(rest_seconds=0))
    models.start(0)
    server, port = start_server(ServerCore(models), "127.0.0.1", 0, 4)
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder / "1")).signature_def["generate"]

    def in_process(inputs: dict[str, np.ndarray]) -> list[str]:
        return _decoded(own(**{name: tf.constant(value) for name, value in inputs.items()})["text"].numpy())

    def in_session(inputs: dict[str, np.ndarray]) -> list[str]:
        feeds = {loaded.inputs[name].name: value for name, value in inputs.items()}
        return _decoded(session.run(loaded.outputs["text"].name, feeds))

    with PredictClient(f"127.0.0.1:{port}", "gpt", deadline_s=60) as client:
        yield {
            "in the process": in_process,
            "on the server": lambda inputs: _decoded(client.predict(inputs, "generate")["text"]),
            "in a version-1 session": in_session,
        }
    server.stop(None).wait()
    models.close()
    session.close()


def _decoded(texts: Any) -> list[str]:
    return [text.decode() for text in texts.tolist()]


def inputs_of(prompts: list[str], sampling: Sampling) -> dict[str, np.ndarray]:
    return {"prompt": np.array([prompt.encode() for prompt in prompts], object), **sampling.inputs(len(prompts))}


def smallest_margin(model: Any, prompt: str, text: str) -> float:
    """Between the two best logits at any word of a text."""
    causal, tokenizer = model
    ids = [tokenizer.special.bos, *tokenizer.tokenize([prompt + text]).to_list()[0]][:LONGEST]
    begin = len(tokenizer.tokenize([prompt]).to_list()[0])
    logits = np.sort(causal({"token_ids": np.array([ids], np.int32)})["logits"].numpy()[0, begin:])
    return float((logits[:, -1] - logits[:, -2]).min())


@pytest.mark.parametrize("settings", SETTINGS)
def test_one_prompt_and_seed_give_one_text_everywhere_alone_and_in_a_batch(
    model: Any, places: dict[str, Generate], settings: str
) -> None:
    sampling = SETTINGS[settings]
    found = {place: generate(inputs_of(PROMPTS, sampling)) for place, generate in places.items()}
    for place, generate in places.items():
        found[f"alone {place}"] = [generate(inputs_of([prompt], sampling))[0] for prompt in PROMPTS]
    expected = found["in the process"]
    assert len(set(expected)) == len(PROMPTS)
    differing = [
        (place, prompt, one)
        for place, texts in found.items()
        for prompt, text, one in zip(PROMPTS, texts, expected, strict=True)
        if text != one
    ]
    close = [smallest_margin(model, prompt, one) < CLOSE for _, prompt, one in differing]
    print(
        f"{settings}: {len(differing)} of {len(found) * len(PROMPTS)} differ, where two logits are closer than {CLOSE}"
    )
    assert all(close), differing
