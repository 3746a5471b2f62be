"""What do 16 streams at once cost, and is anything lost when their clients leave at random? With batching and without.

    python -m benchmarks.serving_streams --minutes 5

Serves a GPT (--model_base_path, or one with random weights) by two server processes, one of which joins the parts of
streams into batches. They are asked in turns of --turn_seconds until each has worked for --minutes: --streams threads
open one stream after the other, and leave three in ten of them at a random part. Each figure is the median over the
turns, with the lowest and the highest. Afterwards no stream may be open, and the memory may not have grown by more
than a tenth since the first turn: the last lines tell, and the exit code is 1 otherwise.
"""

import random
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.generation_service import NAME, Server, define_model_flags, model_folder, sample_sentences
from kerasllm.errors import ServingError
from serving.clients import PredictClient, Sampling, stream

FLAGS = flags.FLAGS
LEAVING_SHARE = 0.3
DEADLINE_S = 120.0
PATIENCE_S = 60.0  # until streams that were left have ended
MEMORY_SHARE = 0.10  # that the memory may have grown by since the end of the first turn


@dataclass
class Turn:
    """What the streams of one turn were like; times in milliseconds."""

    first_ms: list[float] = field(default_factory=list)
    between_ms: list[float] = field(default_factory=list)  # tokens, on average over a part
    tokens: int = 0
    whole: int = 0
    left: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the server

    def figures(self) -> dict[str, float]:
        """Rates and percentiles by name."""
        return {
            "tokens/s": self.tokens / self.seconds,
            "CPU a token": 1000 * self.cpu_seconds / self.tokens,
            "first p50": float(np.percentile(self.first_ms, 50)),
            "first p95": float(np.percentile(self.first_ms, 95)),
            "between p50": float(np.percentile(self.between_ms, 50)),
            "between p95": float(np.percentile(self.between_ms, 95)),
        }


def define_flags() -> None:
    """Says how long, how many and of what size."""
    define_model_flags()
    flags.DEFINE_float("minutes", 5.0, "Time for which each of the two servers is asked.", lower_bound=0)
    flags.DEFINE_float("turn_seconds", 30.0, "Time for which one is asked before the other is.", lower_bound=0.1)
    flags.DEFINE_integer("streams", 16, "Streams at once.", lower_bound=1)
    flags.DEFINE_integer("max_new_tokens", 64, "Tokens of a text at most.", lower_bound=8)
    flags.DEFINE_integer("chunk_tokens", 4, "Tokens of a part.", lower_bound=1)


def main() -> None:
    """Measures both servers and says what was lost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base_path = model_folder(folder)
        parameters = folder / "batching.config"
        parameters.write_text(
            f"max_batch_size {{ value: {FLAGS.streams} }} batch_timeout_micros {{ value: 0 }} "
            f"num_batch_threads {{ value: 1 }} max_enqueued_batches {{ value: {FLAGS.streams} }}",
            encoding="utf-8",
        )
        threads = f"--grpc_max_threads={2 * FLAGS.streams}"
        joined = ("--enable_batching", f"--batching_parameters_file={parameters}")
        (folder / "joined").mkdir()
        (folder / "plain").mkdir()
        with (
            Server(base_path, folder / "joined", threads, *joined) as joining,
            Server(base_path, folder / "plain", threads) as plain,
        ):
            is_clean = compare({"batching": joining, "plain": plain})
    if not is_clean:
        raise SystemExit(1)


def compare(servers: dict[str, Server]) -> bool:
    """Prints the figures of all servers, asked in turns; whether nothing was lost."""
    prompts = sample_sentences(200)
    num_turns = max(1, round(60 * FLAGS.minutes / FLAGS.turn_seconds))
    turns: dict[str, list[Turn]] = {name: [] for name in servers}
    memory: dict[str, list[float]] = {name: [] for name in servers}
    for server in servers.values():  # the session plans its graphs at their first run
        ask(server.address, prompts, FLAGS.streams, 0.0, -1)
    for number in range(num_turns):
        for name, server in servers.items():
            before = server.cpu_seconds()
            turn = ask(server.address, prompts, FLAGS.streams, FLAGS.turn_seconds, number)
            turn.cpu_seconds = server.cpu_seconds() - before
            turns[name].append(turn)
            memory[name].append(server.resident_megabytes())
    names = turns[next(iter(servers))][0].figures()
    print(f"{FLAGS.streams} streams at once; milliseconds, median of {num_turns} turns [lowest, highest]")
    for name in servers:
        columns = {figure: [turn.figures()[figure] for turn in turns[name]] for figure in names}
        texts = [f"{key} {np.median(one):.1f} [{min(one):.1f}, {max(one):.1f}]" for key, one in columns.items()]
        print(f"{name:>10}  {'  '.join(texts)}")
    for figure in ("tokens/s", "CPU a token"):
        ratios = [one.figures()[figure] / other.figures()[figure] for one, other in zip(*turns.values(), strict=True)]
        print(f"{figure}, batching to plain: {np.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
    return all([told(name, server, turns[name], memory[name]) for name, server in servers.items()])


def told(name: str, server: Server, turns: Sequence[Turn], memory: Sequence[float]) -> bool:
    """Prints what became of a server's streams; whether nothing was lost."""
    end = time.monotonic() + PATIENCE_S
    while server.counted(":kerasllm:serving:streams_open") and time.monotonic() < end:
        time.sleep(0.1)
    num_open = server.counted(":kerasllm:serving:streams_open")
    failures = [failure for turn in turns for failure in turn.failures]
    whole, left = sum(turn.whole for turn in turns), sum(turn.left for turn in turns)
    print(f"{name:>10}  {whole} whole, {left} left by their clients, {len(failures)} failed, {num_open:.0f} still open")
    print(f"{'':>10}  memory after the first turn {memory[0]:.0f} MB, highest {max(memory):.0f}, last {memory[-1]:.0f}")
    for failure in sorted(set(failures))[:5]:
        print(f"{'':>10}  {failure}")
    return not failures and not num_open and memory[-1] <= (1 + MEMORY_SHARE) * memory[0]


def ask(address: str, prompts: Sequence[str], num_streams: int, seconds: float, seed: int) -> Turn:
    """One turn: as many threads as streams, each opens at least one."""
    turn, lock, start = Turn(), threading.Lock(), time.monotonic()

    def work(number: int) -> None:
        dice = random.Random(f"{seed} {number}")
        with PredictClient(address, NAME, DEADLINE_S) as client:
            is_first = True
            while is_first or time.monotonic() < start + seconds:
                is_first = False
                sampling = Sampling(dice.randint(1, FLAGS.max_new_tokens), 0.8, top_p=0.9, seed=dice.getrandbits(60))
                most_parts = dice.randint(1, 8) if dice.random() < LEAVING_SHARE else 10**9
                one = read(client, dice.choice(prompts)[:80], sampling, most_parts)
                with lock:
                    add(turn, one)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(num_streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turn.seconds = time.monotonic() - start
    if not turn.between_ms:
        raise ServingError(f"No stream came to its second part: {', '.join(turn.failures[:3]) or 'all were left'}.")
    return turn


def read(client: PredictClient, prompt: str, sampling: Sampling, most_parts: int) -> Turn:
    """One stream, left after so many parts."""
    seen, before = Turn(), time.monotonic()
    parts = stream(client, prompt, sampling, FLAGS.chunk_tokens)
    try:
        for count, part in enumerate(parts, 1):
            now = time.monotonic()
            if count == 1:
                seen.first_ms.append(1000 * (now - before))
            elif part.num_tokens > seen.tokens:
                seen.between_ms.append(1000 * (now - before) / (part.num_tokens - seen.tokens))
            seen.tokens, before = part.num_tokens, now
            if part.finish_reason:
                seen.whole = 1
            elif count == most_parts:
                seen.left = 1
                break
    except ServingError as error:
        seen.failures.append(str(error))
    finally:
        parts.close()
    return seen


def add(turn: Turn, one: Turn) -> None:
    """Adds a stream to its turn."""
    turn.first_ms += one.first_ms
    turn.between_ms += one.between_ms
    turn.failures += one.failures
    turn.tokens, turn.whole, turn.left = turn.tokens + one.tokens, turn.whole + one.whole, turn.left + one.left


if __name__ == "__main__":
    define_flags()
    run_program(main)
