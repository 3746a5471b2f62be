"""Does anything that a client may send bring the server down, or fail without a clear word? Random requests, counted.

    python -m benchmarks.generation_requests --requests 5000

Serves a GPT (--model_base_path, or one with random weights) and sends random requests to it from --threads threads: a
third each to the signature `generate` over gRPC, to the streams over gRPC, and to the OpenAI protocol over HTTP. Many
are wrong in some way: strange texts, numbers beyond their bounds, other types and shapes, missing or unknown names,
bodies cut off. A request may be answered or refused; a failure is an answer for which the server has no reason
(INTERNAL, UNKNOWN, 500), a refusal without a text, or none at all. Prints how often each status came, and whether the
server then still gives its first answer; the exit code is 1 after a failure.
"""

import collections
import concurrent.futures
import http.client
import json
import random
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.generation_service import NAME, Server, define_model_flags, model_folder
from kerasllm.errors import ServingError
from serving.clients import PredictClient, Sampling, generate

FLAGS = flags.FLAGS
DEADLINE_S = 120.0
MOST_TEXTS = 25
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
FAILURES = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE", "500", "502", "503", "no answer", "no text")
TEXTS = (
    "",
    "The company said",
    "今天公司",
    "😀👩‍👩‍👧‍👦",
    "a\x00b",
    "\n\n",
    " " * 50,
    "word " * 500,
    "\u202eabc",
    "</s><s>[PAD]",
)
NUMBERS = (0, 1, -1, 2, 0.5, 1e-30, -0.0, 1e30, 2**31 - 1, -(2**31), 2**63 - 1, float("nan"), float("inf"))


def define_flags() -> None:
    """Says how many requests, and of what."""
    define_model_flags()
    flags.DEFINE_integer("requests", 5000, "Random requests.", lower_bound=1)
    flags.DEFINE_integer("threads", 8, "Clients at a time.", lower_bound=1)
    flags.DEFINE_integer("seed", 1, "All chance comes from it.")


def main() -> None:
    """Sends the requests and says what became of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            Server(model_folder(folder), folder, f"--grpc_max_threads={2 * FLAGS.threads}") as server,
            PredictClient(server.address, NAME, DEADLINE_S) as client,
        ):
            first = generate(client, ["The company said"], Sampling(8))
            counts, texts, failures = send(server, FLAGS.requests, FLAGS.threads, FLAGS.seed)
            has_answered = server.is_alive() and generate(client, ["The company said"], Sampling(8)) == first
    for (way, status), count in sorted(counts.items()):
        print(f"{way:>10} {status:<22} {count:6d}")
    print("what refusals say most often:")
    for text, count in texts.most_common(MOST_TEXTS):
        print(f"{count:6d}  {text}")
    print(f"{sum(counts.values())} requests, {len(failures)} failures")
    for failure in failures[:10]:
        print(f"  {failure[:400]}")
    print(f"the server {'still gives its first answer' if has_answered else 'IS GONE OR ANSWERS OTHERWISE'}")
    if failures or not has_answered:
        raise SystemExit(1)


def send(
    server: Server, num_requests: int, num_threads: int, seed: int
) -> tuple[collections.Counter[Any], collections.Counter[str], list[str]]:
    """How often each way of asking ended in each status, how often refusals said what, and what is a failure."""
    counts: collections.Counter[Any] = collections.Counter()
    texts: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    lock = threading.Lock()
    ways: list[tuple[str, Callable[[random.Random, PredictClient, str], tuple[str, str]]]]
    ways = [("generate", ask_generate), ("stream", ask_stream), ("http", ask_http)]

    def work(first: int) -> None:
        with PredictClient(server.address, NAME, DEADLINE_S) as client:
            for number in range(first, num_requests, num_threads):
                way, ask = ways[number % len(ways)]
                status, text = ask(random.Random(f"{seed} {number}"), client, server.http_address)
                with lock:
                    counts[way, status] += 1
                    if status not in ("OK", "200"):
                        texts[_NUMBER.sub("N", text.partition("\n")[0])[:160]] += 1
                    if status in FAILURES:
                        failures.append(f"request {number} by {way}: {status}: {text}")

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(work, range(num_threads)))  # raises what a thread has
    return counts, texts, failures


def ask_generate(dice: random.Random, client: PredictClient, _: str) -> tuple[str, str]:
    """Status and text of one call of the signature."""
    return _outcome(lambda: client.predict(random_inputs(dice), "generate"))


def ask_stream(dice: random.Random, client: PredictClient, _: str) -> tuple[str, str]:
    """Status and text of one stream, read to its end or left."""

    def read() -> None:
        parts = client.predict_stream(random_inputs(dice, leaves_out=0.3))
        for _ in parts:
            if dice.random() < 0.1:
                break
        parts.close()

    return _outcome(read)


def ask_http(dice: random.Random, _: PredictClient, address: str) -> tuple[str, str]:
    """Status and text of one request of the OpenAI protocol."""
    path = dice.choice(("/v1/completions", "/v1/chat/completions"))
    body = json.dumps(random_body(dice, path)).encode()
    if dice.random() < 0.1:
        body = body[: dice.randrange(len(body))] + dice.randbytes(dice.randrange(3))
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except OSError as error:
        return "no answer", repr(error)
    finally:
        connection.close()
    is_told = response.status == 200 or bool(json.loads(text)["error"]["message"])
    return (str(response.status) if is_told else "no text"), text


def random_inputs(dice: random.Random, leaves_out: float = 0.02) -> dict[str, np.ndarray]:
    """Inputs of the signature, each of which may be wrong."""
    rows = dice.choice((1, 1, 1, 2, 3))
    chosen = Sampling(dice.randint(1, 12), dice.choice((0.0, 1.0)), dice.choice((0, 5)), seed=dice.getrandbits(60))
    prompts = [dice.choice((dice.choice(TEXTS).encode(), dice.randbytes(dice.randrange(20)))) for _ in range(rows)]
    inputs = {"prompt": np.array(prompts, object), **chosen.inputs(rows)}
    if dice.random() < 0.3:
        inputs["stop"] = np.array([[dice.choice(TEXTS).encode() for _ in range(2)]] * rows, object)
    for name in list(inputs):
        if name != "prompt" and dice.random() < leaves_out:
            del inputs[name]
        elif dice.random() < 0.05:
            inputs[name] = _spoilt(dice, inputs[name])
    if dice.random() < 0.03:
        inputs[dice.choice(("mood", "", "cache"))] = np.ones([rows], np.float32)
    return inputs


def _spoilt(dice: random.Random, array: np.ndarray) -> np.ndarray:
    """Another value, type or shape."""
    if array.dtype != object and dice.random() < 0.6:
        with np.errstate(all="ignore"):
            return np.full(array.shape, np.float64(dice.choice(NUMBERS))).astype(array.dtype)
    return dice.choice((array[:0], array[None], np.concatenate([array, array]), np.ones(array.shape, np.float64)))


def random_body(dice: random.Random, path: str) -> dict[str, Any]:
    """The JSON of a request, each field of which may be wrong."""

    def text() -> str:
        return dice.choice(TEXTS) if dice.random() < 0.95 else chr(dice.choice((0xD800, 0x1F600, 0xFFFD)))

    body: dict[str, Any] = {"model": NAME, "max_tokens": dice.randint(1, 12), "prompt": text()}
    if "chat" in path:
        del body["prompt"]
        roles = ("user", "assistant", "system", "user", "developer", "two words")
        body["messages"] = [{"role": dice.choice(roles), "content": text()} for _ in range(dice.randint(1, 3))]
    others = {
        "temperature": dice.choice(NUMBERS),
        "top_p": dice.choice(NUMBERS),
        "n": dice.choice((1, 2, 3, 0, 1000)),
        "seed": dice.choice((1, -5, 2**63 - 1, 2**64, 0.5)),
        "stop": dice.choice(("a", ["b", "\n"], [], [1], ["x"] * 20)),
        "stream": dice.choice((True, True, False, "yes")),
        "logprobs": dice.choice((None, False, 2)),
        "model": dice.choice(("nobody", "", 3, "a/b")),
        "mood": "good",
        "top_k": dice.choice((0, 5, -1)),
    }
    for name, value in others.items():
        if dice.random() < 0.12:
            body[name] = value
    return body


def _outcome(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except ServingError as error:
        address_and_status = str(error).split(": ", 2)
        return address_and_status[1], address_and_status[-1]
    return "OK", ""


if __name__ == "__main__":
    define_flags()
    run_program(main)
