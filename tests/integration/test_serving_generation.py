"""Does a served GPT say over gRPC what it says in the process, at once and as a stream?"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasllm.errors import InvalidRequest
from serving.clients import PredictClient, Sampling, beam_search, choose, generate, generate_without, stream

ROOT = Path(__file__).parents[2]
LINES = ["the cat sat on the mat. 你好世界 😀", "profit rose by ten percent today. 今天公司利润上升", "ABC 0123456789"]
PROMPTS = ["the cat", "今天", "", "profit 😀"]


@pytest.fixture(scope="module")
def signatures() -> Any:
    from kerasllm.export.generation import GenerationSignatures
    from kerasllm.models import GPTBackbone, GPTCausalLM
    from kerasllm.text import train_sentencepiece

    tokenizer = train_sentencepiece(LINES * 30, 360)
    model = GPTCausalLM(GPTBackbone(tokenizer.vocab_size, num_layers=2, hidden_dim=16, num_heads=2, max_length=32))
    random = np.random.default_rng(3)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.5, weight.shape))
    return GenerationSignatures(model, tokenizer)


@pytest.fixture(scope="module")
def client(signatures: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictClient]:
    import tensorflow as tf

    from serving.server.core import ServerCore
    from serving.server.services import start_server
    from serving.server.versions import LoadPolicy, ModelConfig, Models

    folder: Path = tmp_path_factory.mktemp("exports") / "gpt"
    tf.saved_model.save(signatures, str(folder / "1"), signatures=signatures.signatures())
    models = Models([ModelConfig("gpt", folder)], policy=LoadPolicy(rest_seconds=0))
    models.start(0)
    server, port = start_server(ServerCore(models), "127.0.0.1", 0, 4)
    with PredictClient(f"127.0.0.1:{port}", "gpt", deadline_s=60) as asking:
        yield asking
    server.stop(None).wait()
    models.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_served_text_is_that_of_the_process_alone_and_in_a_batch(
    signatures: Any, client: PredictClient, temperature: float
) -> None:
    import tensorflow as tf

    sampling = Sampling(max_new_tokens=16, temperature=temperature, seed=7)
    inputs = {"prompt": np.array([prompt.encode() for prompt in PROMPTS], object), **sampling.inputs(len(PROMPTS))}
    own = signatures.signatures()["generate"](**{name: tf.constant(value) for name, value in inputs.items()})
    expected = [text.decode() for text in own["text"].numpy().tolist()]
    together = generate(client, PROMPTS, sampling)
    assert [one.text for one in together] == expected
    assert [generate(client, [prompt], sampling)[0] for prompt in PROMPTS] == together
    assert len(set(expected)) > 1


def test_a_stream_grows_to_the_whole_text_and_tells_why_it_ended(client: PredictClient) -> None:
    sampling = Sampling(max_new_tokens=16, temperature=1.0, seed=3)
    parts = list(stream(client, PROMPTS[1], sampling, chunk_tokens=3))
    for before, after in zip(parts, parts[1:], strict=False):
        assert after.text.startswith(before.text)
        assert before.finish_reason == ""
    assert parts[-1] == generate(client, [PROMPTS[1]], sampling)[0]
    assert parts[-1].finish_reason == "length"
    assert len(parts) == 6  # the first word, and 15 more in chunks of three


def test_a_stop_string_ends_the_stream_early(client: PredictClient) -> None:
    sampling = Sampling(max_new_tokens=16, temperature=1.0, seed=3)
    whole = generate(client, ["the cat"], sampling)[0]
    stop = whole.text[3:5]
    *_, last = stream(client, "the cat", Sampling(16, 1.0, seed=3, stop=(stop,)), chunk_tokens=2)
    assert (last.text, last.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")
    assert last.num_tokens < whole.num_tokens


def test_the_command_line_asks_with_numbers_of_the_types_that_the_model_takes(client: PredictClient) -> None:
    settings = {"max_new_tokens": 5, "temperature": 1, "top_k": 0, "top_p": 1, "repetition_penalty": 1, "seed": 2**40}
    asked = {"prompt": ["the cat"], "stop": [[]], **{name: [value] for name, value in settings.items()}}
    command = [sys.executable, "-m", "serving.clients.cli", f"--server={client.address}", "--model=gpt"]
    command += ["--signature=generate", f"--inputs={json.dumps(asked)}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    [expected] = generate(client, ["the cat"], Sampling(5, 1.0, seed=2**40))
    assert json.loads(shown.stdout)["text"] == expected.text


def test_a_prompt_that_is_too_long_is_refused_with_the_limit(client: PredictClient) -> None:
    with pytest.raises(InvalidRequest, match="prompts may have 30 tokens"):
        generate(client, ["the cat " * 30])


def test_no_prompts_get_no_answers(client: PredictClient) -> None:
    assert generate(client, []) == []
    assert generate_without(client, [], ["a"]) == beam_search(client, []) == choose(client, [], ["a"]) == []


def test_forbidden_strings_are_not_in_what_is_served(client: PredictClient) -> None:
    sampling = Sampling(max_new_tokens=16, temperature=1.0, seed=7)
    whole = generate(client, PROMPTS, sampling)
    words = sorted({character for one in whole for character in one.text if character.isalnum()})[:6]
    assert sum(one.text.count(word) for one in whole for word in words) >= 6
    for one in generate_without(client, PROMPTS, words, sampling):
        assert not [word for word in words if word in one.text]
    assert generate_without(client, PROMPTS, [], sampling) == whole


def test_beams_and_choices_are_served(client: PredictClient) -> None:
    assert len(beam_search(client, PROMPTS, max_new_tokens=6, num_beams=3)) == len(PROMPTS)
    choices = [" sat on the mat", "公司", "9"]
    for choice in choose(client, PROMPTS, choices):
        assert choice.text == choices[choice.index]
        assert choice.probabilities[choice.index] == max(choice.probabilities)
