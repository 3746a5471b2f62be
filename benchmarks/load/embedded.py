"""How is our server started to be measured? With batching, by flags that every benchmark of load has."""

import sys
from pathlib import Path

from absl import flags

from benchmarks.load import minilm

FLAGS = flags.FLAGS
_PARAMETERS = """max_batch_size {{ value: {rows} }}
batch_timeout_micros {{ value: {micros} }}
max_enqueued_batches {{ value: 1000 }}
num_batch_threads {{ value: {threads} }}
"""


def define_load_flags() -> None:
    """Says what is asked and how the server batches."""
    flags.DEFINE_string("data", None, "A .tsv with a header; sentences are its first column.", required=True)
    flags.DEFINE_string("minilm", None, "Folder that scripts/get_minilm printed.", required=True)
    flags.DEFINE_integer("num_sentences", 1024, "Sentences that are drawn and asked for by turns.", lower_bound=1)
    flags.DEFINE_integer("max_batch_size", 32, "Rows of a batch, of our server and in process.", lower_bound=1)
    flags.DEFINE_integer("batch_timeout_micros", 0, "How long our server waits for company.", lower_bound=0)
    flags.DEFINE_integer("num_batch_threads", 2, "Batches that our server runs at a time.", lower_bound=1)
    flags.DEFINE_multi_string("server_flag", [], "Further flag of our server, such as --server_flag=--port=1.")


def server_command(folder: Path, *further: str) -> list[str]:
    """The command of `python -m serving.server` on a free port, with further flags that say what it serves.

    Its file of batching parameters is written into `folder`.
    """
    parameters = folder / "batching.config"
    parameters.write_text(
        _PARAMETERS.format(
            rows=FLAGS.max_batch_size, micros=FLAGS.batch_timeout_micros, threads=FLAGS.num_batch_threads
        ),
        encoding="utf-8",
    )
    return [
        *(sys.executable, "-m", "serving.server", "--port=0"),
        *("--enable_batching", f"--batching_parameters_file={parameters}"),
        "--grpc_max_threads=256",  # of which most wait: for twice two batches, and for what is refused meanwhile
        *further,
        *FLAGS.server_flag,
    ]


def serves(base_path: Path) -> list[str]:
    """The flags for one model."""
    return [f"--model_name={minilm.NAME}", f"--model_base_path={base_path}"]
