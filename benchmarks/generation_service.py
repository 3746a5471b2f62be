"""Which server do the benchmarks of generation ask? The embedded one, in a process of its own, with any GPT."""

import http.client
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from absl import flags

from apps.sample_world import market_news
from apps.sample_world.world import Dice, make_world

FLAGS = flags.FLAGS
NAME = "writer"


def define_model_flags() -> None:
    """Says which GPT is served; without --model_base_path one with random weights."""
    flags.DEFINE_string("model_base_path", None, "Exported GPT, the folder of its versions; without: a random one.")
    flags.DEFINE_integer("num_layers", 4, "Layers of the random one.", lower_bound=1)
    flags.DEFINE_integer("hidden_dim", 128, "Its width; a multiple of 4.", lower_bound=8)
    flags.DEFINE_integer("max_length", 128, "Its room in tokens.", lower_bound=8)
    flags.DEFINE_integer(
        "vocab_size", 1000, "Words of its vocabulary; the sample text has 870 characters.", lower_bound=900
    )


def model_folder(folder: Path) -> Path:
    """The folder of the versions of the GPT that the flags name, made below `folder` if it is a random one."""
    if FLAGS.model_base_path is not None:
        return Path(FLAGS.model_base_path).absolute()
    from kerasllm.export.generation import write_generator
    from kerasllm.models import GPTBackbone, GPTCausalLM
    from kerasllm.text import train_sentencepiece

    tokenizer = train_sentencepiece(sample_sentences(2000), FLAGS.vocab_size)
    sizes = {name: FLAGS[name].value for name in ("num_layers", "hidden_dim", "max_length")}
    model = GPTCausalLM(GPTBackbone(tokenizer.vocab_size, num_heads=4, **sizes))
    return write_generator(model, tokenizer, folder, NAME).parent


def sample_sentences(count: int) -> list[str]:
    """Synthetic news, English and Chinese in turns."""
    world = make_world(1)
    texts = {language: market_news.reports(Dice(f"benchmark {language}"), world, language) for language in ("en", "zh")}
    return [next(texts["zh" if number % 2 else "en"]).partition("\n")[2].strip() for number in range(count)]


class Server:
    """A server's process: the ports that it got, what it counts, and the memory that it holds."""

    def __init__(self, base_path: Path, folder: Path, *arguments: str) -> None:
        monitoring = folder / "monitoring.config"
        monitoring.write_text('prometheus_config { enable: true path: "/metrics" }', encoding="utf-8")
        command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1", "--openai_api"]
        command += [f"--model_name={NAME}", f"--model_base_path={base_path}", f"--monitoring_config_file={monitoring}"]
        self._log = (folder / "server.log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None, "it is piped"
        self.address = self._port_after("gRPC ModelServer at ")
        self.http_address = self._port_after("REST API at:")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def _port_after(self, words: str) -> str:
        assert self.process.stdout is not None, "it is piped"
        for line in self.process.stdout:
            if words in line:
                return line.partition(words)[2].split()[0]
        raise SystemExit(f"The server has not started:\n{self.log()}")

    def log(self) -> str:
        """What it has said of errors so far."""
        self._log.seek(0)
        return self._log.read()

    def counted(self, name: str) -> float:
        """The sum of a metric over its labels."""
        connection = http.client.HTTPConnection(self.http_address, timeout=60)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))

    def resident_megabytes(self) -> float:
        """Memory of the process; read from /proc, so on Linux alone."""
        status = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
        return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """Time that the process has computed for, of all its threads; read from /proc too."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self._log.close()
