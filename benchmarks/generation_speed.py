r"""How fast does a served GPT write, beside keras-nlp and Hugging Face transformers, and how near is it to its bound?

    python -m benchmarks.generation_speed --text 'DATA/wikitext2/wiki.valid.txt' --torch "$(scripts/get_torch)"

Greedy decoding of 64 tokens after 16 with random weights: 6 layers of width 512, 8,192 words; all sides by turns, in
one run, with as many threads:
  kerasllm            signature `generate` of the SavedModel in the embedded server's Session, from string to string
  kerasllm, bfloat16  the same of an export with --bfloat16_compute
  keras-nlp           GPT2CausalLM.generate, as a graph and compiled by XLA, from token ids to token ids
  transformers        GPT2LMHeadModel.generate in PyTorch, from token ids to token ids
Prints medians, the ratio to the best peer, and the bound: every token reads each weight once, which is measured as the
bytes of the weights by the bandwidth of reading. Then the first token after a prompt of 512 beside the plain forward
pass of these tokens. With --profile BATCH instead: what the time of our side goes into. --text is for the tokenizer.
"""

import concurrent.futures
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.baselines.other_process import start_side
from benchmarks.profiles import print_profile

if TYPE_CHECKING:
    from kerasllm.models import GPTCausalLM
    from kerasllm.text import Tokenizer

FLAGS = flags.FLAGS
OURS, NARROW = "kerasllm", "kerasllm, bfloat16"
LONG_PROMPT = 512
READ_BYTES = 1 << 28  # far more than caches hold
Generate = Callable[[int], float]  # of so many rows: seconds


def define_flags() -> None:
    """Says how large the model is, beside whom, and how often."""
    flags.DEFINE_string("text", None, "UTF-8 text of some megabytes, to learn the words from.", required=True)
    flags.DEFINE_string("torch", None, "Interpreter of an environment with PyTorch and transformers.")
    flags.DEFINE_integer("num_layers", 6, "Transformer blocks.", lower_bound=1)
    flags.DEFINE_integer("hidden_dim", 512, "Width.", lower_bound=8)
    flags.DEFINE_integer("num_heads", 8, "Attention heads.", lower_bound=1)
    flags.DEFINE_integer("vocab_size", 8192, "Words.", lower_bound=300)
    flags.DEFINE_integer("prompt_tokens", 16, "Tokens of a prompt.", lower_bound=2)
    flags.DEFINE_integer("new_tokens", 64, "Tokens after it.", lower_bound=1)
    flags.DEFINE_multi_integer("batch", [1, 8], "Rows; may be repeated.", lower_bound=1)
    flags.DEFINE_integer("rounds", 7, "Measurements of each side.", lower_bound=1)
    flags.DEFINE_integer("num_threads", os.cpu_count() or 1, "Threads of one operation, of every side.", lower_bound=1)
    flags.DEFINE_integer("profile", 0, "Rows of a batch to profile, in place of the measurements.", lower_bound=0)


def main() -> None:
    """Makes all sides and measures them by turns."""
    from kerasllm.text import train_sentencepiece
    from kerasllm.training import configure_devices

    configure_devices(0, FLAGS.num_threads)
    lines = Path(FLAGS.text).read_text(encoding="utf-8").splitlines()
    tokenizer = train_sentencepiece(lines, FLAGS.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model()
        ours = ServedModel(model, tokenizer, lines, Path(folder) / "float32")
        narrow = ServedModel(narrowed(model), tokenizer, lines, Path(folder) / "bfloat16")
        if FLAGS.profile:
            for name, served in ((OURS, ours), (NARROW, narrow)):
                served.generate(FLAGS.profile)  # makes the graph
                seconds = print_profile(functools.partial(served.generate, FLAGS.profile), 1)
                print(
                    f"{name}, batch {FLAGS.profile}: {seconds * 1e3 / FLAGS.new_tokens:.2f} ms a step in operations\n"
                )
            return
        sides = {OURS: ours.generate, NARROW: narrow.generate, **keras_nlp_sides()}
        if FLAGS.torch:
            sides["transformers"] = torch_side()
        for batch in FLAGS.batch:
            report(sides, batch, {OURS: ours.weight_bytes, NARROW: narrow.weight_bytes})
        report_prefill({OURS: ours, NARROW: narrow})


def make_model() -> "GPTCausalLM":
    """GPT-2 of the flags' sizes with new weights."""
    from kerasllm.models import GPTBackbone, GPTCausalLM

    sizes = {name: FLAGS[name].value for name in ("num_layers", "hidden_dim", "num_heads")}
    return GPTCausalLM(GPTBackbone(FLAGS.vocab_size, max_length=max_length(), **sizes))


def narrowed(model: "GPTCausalLM") -> "GPTCausalLM":
    """The model as --bfloat16_compute exports it."""
    from kerasllm.export.narrow import computing_in_bfloat16

    return computing_in_bfloat16(model)


def max_length() -> int:
    """Positions of every side."""
    return max(FLAGS.prompt_tokens + FLAGS.new_tokens, LONG_PROMPT + 1)


class ServedModel:
    """An export in the engine of the embedded server.

    Attributes:
      weight_bytes: that each step has to read; of the position table it reads a row.
    """

    def __init__(self, model: "GPTCausalLM", tokenizer: "Tokenizer", lines: list[str], directory: Path) -> None:
        import tensorflow as tf

        from kerasllm.export.generation import GenerationSignatures
        from kerasllm.export.savedmodel import bytes_of
        from serving.server.engine import Engine

        def score_last(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"logits": model.score(model.backbone({"token_ids": token_ids})["hidden"][:, -1])}

        module = GenerationSignatures(model, tokenizer)
        forward = tf.function(score_last, autograph=False).get_concrete_function(
            token_ids=tf.TensorSpec([None, None], tf.int32)
        )
        signatures = {"generate": module.signature("generate"), "forward": forward}
        tf.saved_model.save(module, str(directory), signatures)
        self._engine = Engine(directory)
        self._tokenizer, self._words = tokenizer, " ".join(lines).split()
        positions = model.backbone.embedding.position_table
        self.weight_bytes = bytes_of(model.weights) - bytes_of([positions])

    def generate(self, batch: int) -> float:
        """Seconds of new tokens after as many different prompts."""
        prompts = [self._prompt(FLAGS.prompt_tokens, row) for row in range(batch)]
        return self._generate(prompts, FLAGS.new_tokens)

    def read_prompt(self) -> float:
        """Seconds to the first token after a long prompt."""
        return self._generate([self._prompt(LONG_PROMPT, 0)], 1)

    def read_plainly(self) -> float:
        """Seconds of the forward pass over as many tokens, with the scores of the last one."""
        ids = np.random.default_rng(0).integers(5, FLAGS.vocab_size, [1, LONG_PROMPT]).astype(np.int32)
        return self._seconds("forward", {"token_ids": ids})[0]

    def _generate(self, prompts: list[str], new_tokens: int) -> float:
        from kerasllm.export.settings import greedy

        inputs = {"prompt": np.array([one.encode() for one in prompts], object), **greedy(new_tokens, len(prompts))}
        seconds, answers = self._seconds("generate", inputs)
        assert (answers["num_tokens"] == new_tokens).all(), "a row ended early: take another --text"
        return seconds

    def _seconds(self, signature: str, inputs: dict[str, np.ndarray]) -> tuple[float, dict[str, Any]]:
        known = self._engine.signatures[signature]
        feeds = [(known.inputs[name].name, array) for name, array in inputs.items()]
        names = list(known.outputs)
        start = time.perf_counter()
        found = self._engine.run(feeds, [known.outputs[name].name for name in names])
        return time.perf_counter() - start, dict(zip(names, found, strict=True))

    def _prompt(self, tokens: int, number: int) -> str:
        """A part of the text that has so many tokens, with the one that begins it."""
        for start in range(number * tokens, len(self._words) - tokens):
            parts = [" ".join(self._words[start : start + count]) for count in range(1, tokens)]
            found = np.flatnonzero(self._tokenizer.tokenize(parts).row_lengths().numpy() == tokens - 1)
            if len(found):
                return parts[found[0]]
        raise ValueError(f"--text has no part of {tokens} tokens. Give a longer one.")


def keras_nlp_sides() -> dict[str, Generate]:
    """Its greedy `generate`, as a graph and compiled."""
    return {"keras-nlp": keras_nlp_side(False), "keras-nlp, XLA": keras_nlp_side(True)}


def keras_nlp_side(is_compiled: bool) -> Generate:
    """GPT2CausalLM.generate without strings."""
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=FLAGS.vocab_size,
        num_layers=FLAGS.num_layers,
        num_heads=FLAGS.num_heads,
        hidden_dim=FLAGS.hidden_dim,
        intermediate_dim=4 * FLAGS.hidden_dim,
        max_sequence_length=max_length(),
    )
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    model.compile(sampler="greedy", jit_compile=is_compiled)
    draw = np.random.default_rng(0)

    def generate(batch: int) -> float:
        shape = [batch, FLAGS.prompt_tokens + FLAGS.new_tokens]
        is_prompt = np.broadcast_to(np.arange(shape[1]) < FLAGS.prompt_tokens, shape)
        rows = {
            "token_ids": np.where(is_prompt, draw.integers(5, FLAGS.vocab_size, shape), 0).astype(np.int32),
            "padding_mask": is_prompt.astype(np.int32),
        }
        start = time.perf_counter()
        model.generate(rows, stop_token_ids=None)
        return time.perf_counter() - start

    return generate


def torch_side() -> Generate:
    """A process of the other environment, that waits while another side is measured."""
    names = ("vocab_size", "num_layers", "hidden_dim", "num_heads", "prompt_tokens", "new_tokens", "num_threads")
    settings = {**{name: FLAGS[name].value for name in names}, "max_length": max_length()}
    return start_side(FLAGS.torch, "torch_generation.py", settings)


def report(sides: dict[str, Generate], batch: int, weight_bytes: dict[str, int]) -> None:
    """Measures by turns and prints tokens a second."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    bandwidths = []
    for generate in sides.values():
        generate(batch)  # makes the graphs
    for round_number in range(FLAGS.rounds):
        order = list(sides) if round_number % 2 == 0 else list(sides)[::-1]  # no side always goes first
        for name in order:
            speeds[name].append(batch * FLAGS.new_tokens / sides[name](batch))
        bandwidths.append(read_bandwidth())
        figures = "  ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.items())
        print(f"round {round_number + 1}  {figures}", flush=True)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best_peer = max(median for name, median in medians.items() if name not in weight_bytes)
    bandwidth = statistics.median(bandwidths)
    print(
        f"batch {batch}, {FLAGS.num_threads} threads, {FLAGS.rounds} rounds; reading {bandwidth / 1e9:.1f} GB/s "
        f"({min(bandwidths) / 1e9:.1f} to {max(bandwidths) / 1e9:.1f})"
    )
    print(f"{'':<20}{'tokens/s':>10}{'lowest':>9}{'highest':>9}{'to best peer':>14}{'bound':>9}{'reached':>9}")
    for name, values in speeds.items():
        line = f"{name:<20}{medians[name]:>10,.0f}{min(values):>9,.0f}{max(values):>9,.0f}"
        if name in weight_bytes:
            bound = batch * bandwidth / weight_bytes[name]
            line += f"{medians[name] / best_peer:>13.2f}x{bound:>9,.0f}{medians[name] / bound:>9.0%}"
        print(line)
    print(f"{NARROW} is {medians[NARROW] / medians[OURS]:.2f}x {OURS}\n", flush=True)


def report_prefill(served: dict[str, ServedModel]) -> None:
    """Prints how much longer than a plain forward pass the first token of a long prompt takes."""
    for name, model in served.items():
        sides = {"forward pass": model.read_plainly, "first token": model.read_prompt}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for read in sides.values():
            read()
        for round_number in range(FLAGS.rounds):
            for side in list(sides) if round_number % 2 == 0 else list(sides)[::-1]:
                seconds[side].append(sides[side]())
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        spread = ", ".join(
            f"{side} {medians[side] * 1e3:.1f} ms ({min(values) * 1e3:.1f} to {max(values) * 1e3:.1f})"
            for side, values in seconds.items()
        )
        print(
            f"{name}, prompt of {LONG_PROMPT} tokens: {spread}; {medians['first token'] / medians['forward pass']:.2f}x"
        )


def read_bandwidth() -> float:
    """Bytes a second that all threads together read from memory."""
    parts = np.array_split(np.ones(READ_BYTES // 4, np.float32), FLAGS.num_threads)
    with concurrent.futures.ThreadPoolExecutor(FLAGS.num_threads) as pool:
        list(pool.map(np.max, parts))
        start = time.perf_counter()
        list(pool.map(np.max, parts))
        return READ_BYTES / (time.perf_counter() - start)


if __name__ == "__main__":
    define_flags()
    run_program(main)
