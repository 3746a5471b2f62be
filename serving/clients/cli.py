"""How does a person ask a model server? Texts as arguments or lines of standard input, answers as lines.

python -m serving.clients.cli --server 127.0.0.1:8500 --model sentiment "Profit rose." "净利润下降。"
"""

import json
import sys
import unicodedata
from typing import Any

from absl import app, flags

from kerasllm.errors import InvalidRequest, KerasLLMError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says who is asked, and for what."""
    flags.DEFINE_string("server", "127.0.0.1:8500", "HOST:PORT of the gRPC server.")
    flags.DEFINE_string("model", "default", "Name of the model on the server.")
    flags.DEFINE_integer("version", None, "Version of the model; the newest one by default.")
    flags.DEFINE_float("deadline_s", 10.0, "Seconds that an answer may take.", lower_bound=0)
    flags.DEFINE_integer("attempts", 4, "Attempts of a call that finds nobody there, or a full queue.", lower_bound=1)
    flags.DEFINE_bool("tls", False, "Speak TLS; with the authorities that gRPC brings, where none is named.")
    flags.DEFINE_string("tls_authority", None, "PEM file of the authority of the server's certificate; means --tls.")
    flags.DEFINE_string("tls_key", None, "PEM file of this client's key, for servers that want one.")
    flags.DEFINE_string("tls_certificate", None, "PEM file of the certificate of --tls_key.")
    flags.DEFINE_integer("batch", 64, "Texts of one call.", lower_bound=1)
    flags.DEFINE_bool("json", False, "One JSON object a line instead of columns.")
    flags.DEFINE_string(
        "inputs", None, 'JSON of a signature\'s inputs instead of texts, {"history": ["i1,i2"]}; answers one a line.'
    )
    flags.DEFINE_string("signature", "serving_default", "The signature that --inputs is for.")
    flags.DEFINE_bool("metadata", False, "Print the model's signatures and end.")
    flags.DEFINE_bool("status", False, "Print the states of the model's versions and end.")


def ask(texts: list[str]) -> None:
    """Prints what the flags ask for.

    Raises:
      InvalidRequest: --inputs is not a JSON object of lists.
      ServingError: as PredictClient does.
    """
    from serving.clients.arrays import to_python, typed
    from serving.clients.channel import Retries, Tls
    from serving.clients.client import PredictClient

    tls, retries = None, Retries(FLAGS.attempts)
    if FLAGS.tls or FLAGS.tls_authority:
        tls = Tls(FLAGS.tls_authority, FLAGS.tls_key, FLAGS.tls_certificate)
    with PredictClient(FLAGS.server, FLAGS.model, FLAGS.deadline_s, FLAGS.version, tls, retries) as client:
        if FLAGS.metadata:
            print(json.dumps(client.metadata(), indent=1, ensure_ascii=False))
        elif FLAGS.status:
            for found in client.status():
                print(f"{found.version:>6}  {found.state:<9}  {found.error}".rstrip())
        elif FLAGS.inputs is not None:
            inputs, wanted = _inputs(FLAGS.inputs), client.metadata().get(FLAGS.signature, {}).get("inputs", {})
            types = {name: text.partition(" ")[0] for name, text in wanted.items()}
            outputs = client.predict(
                {name: typed(value, types.get(name, "")) for name, value in inputs.items()}, FLAGS.signature
            )
            columns = {name: to_python(array) for name, array in sorted(outputs.items())}
            for row in zip(*columns.values(), strict=True):
                print(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False))
        else:
            texts = texts or [line.rstrip("\n") for line in sys.stdin]
            for start in range(0, len(texts), FLAGS.batch):
                batch = texts[start : start + FLAGS.batch]
                for text, answer in zip(batch, client.classify(batch), strict=True):
                    print(_line(text, answer))


def _inputs(given: str) -> dict[str, list[Any]]:
    try:
        inputs = json.loads(given)
    except ValueError as error:
        raise InvalidRequest(f"--inputs is not JSON ({error}). Give an object of lists by input name.") from None
    if not isinstance(inputs, dict) or not all(isinstance(value, list) for value in inputs.values()):
        raise InvalidRequest('--inputs must be an object of lists by input name, such as {"text": ["a", "b"]}.')
    return inputs


def _line(text: str, answer: dict[str, Any]) -> str:
    if FLAGS.json:
        return json.dumps({"text": text, **answer}, ensure_ascii=False)
    if "label" not in answer:  # several heads: the probability of each one's label, all of them would not fit a line
        labels = {name: label for name, label in answer.items() if name.endswith("label")}
        surest = [max(answer[name.removesuffix("label") + "probabilities"]) for name in labels]
        parts = [_padded(f"{label} {share:.3f}", 18) for label, share in zip(labels.values(), surest, strict=True)]
        return "  ".join([*parts, text])
    probabilities = " ".join(f"{probability:.3f}" for probability in answer["probabilities"])
    return f"{_padded(answer['label'], 12)}  {probabilities}  {text}"


def _padded(text: str, width: int) -> str:
    """Pads to columns of a terminal, where a Chinese character takes two."""
    return text + " " * (width - sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text))


def main(argv: list[str]) -> None:
    """Asks; an error of ours is one line and exit code 1."""
    try:
        ask(argv[1:])
    except KerasLLMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    define_flags()
    app.run(main)
