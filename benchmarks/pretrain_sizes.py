"""What do the benchmarks of pretraining train, and on what? Flags for the model's sizes, its run, and the text."""

import random
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from kerasllm.config import Run, make_run

if TYPE_CHECKING:
    from kerasllm.data import Corpus
    from kerasllm.training import Action, Trainer

FLAGS = flags.FLAGS


def define_size_flags(hidden_dim: int = 512, batch: int = 32) -> None:
    """Says on what, how large and in which precision."""
    flags.DEFINE_string("corpus", None, "Folder that apps.pretrain.prepare wrote.", required=True)
    flags.DEFINE_enum("task", "bert", ["bert", "gpt"], "Masked or causal language modelling.")
    flags.DEFINE_enum("precision", "mixed_bfloat16", ["float32", "mixed_bfloat16"], "Of all sides.")
    flags.DEFINE_integer("num_layers", 4, "Transformer blocks.", lower_bound=1)
    flags.DEFINE_integer("hidden_dim", hidden_dim, "Width.", lower_bound=8)
    flags.DEFINE_integer("num_heads", 8, "Attention heads.", lower_bound=1)
    flags.DEFINE_integer("sequence_length", 128, "Tokens of a row.", lower_bound=8)
    flags.DEFINE_integer("batch", batch, "Rows of a step.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Measurements of each side.", lower_bound=1)
    flags.DEFINE_integer("num_threads", 0, "Threads of one operation; 0: as many as cores.", lower_bound=0)


def run_of_sizes(**changes: Any) -> Run:
    """BERT as Devlin et al. 2019 without pairs, or GPT-2, on packed rows.

    Args:
      **changes: other values for settings of these flags, by the flag's name, or of `train`.
    """
    of_flags = ("num_layers", "hidden_dim", "num_heads", "sequence_length", "batch", "precision")
    sizes = {name: changes.pop(name, FLAGS[name].value) for name in of_flags}
    backbone: dict[str, Any] = {
        **{name: sizes[name] for name in ("num_layers", "hidden_dim", "num_heads")},
        "max_length": sizes["sequence_length"],
    }
    if FLAGS.task == "gpt":
        backbone |= {"architecture": "gpt", "norm_order": "pre", "norm_epsilon": 1e-5, "activation": "gelu_tanh"}
        backbone |= {"num_token_types": 0}
    return make_run(
        {
            "backbone": backbone,
            "objective": {"task": f"{FLAGS.task}_pretraining", "next_sentence_weight": 0.0},
            "optimizer": {"peak_learning_rate": 1e-4, "warmup_share": 0.0, "decay": "constant"},
            "train": {
                "steps": 1_000_000,
                "global_batch": sizes["batch"],
                "sequence_length": sizes["sequence_length"],
                "precision": sizes["precision"],
                "pack": FLAGS.task == "bert",  # rows of GPT are a stream of documents anyway
                **changes,
            },
            "export": {"sequence_length": sizes["sequence_length"]},
        }
    )


def make_trainer(run: Run, corpus: "Corpus", actions: "Sequence[Action]" = ()) -> "Trainer":
    """The trainer of a run in a new folder, on one device."""
    from kerasllm import losses, models, training

    return training.Trainer(
        lambda: models.from_run(run, corpus.tokenizer.vocab_size),
        losses.heads_for(run),
        run,
        tempfile.mkdtemp(),
        training.make_strategy(run.train.strategy),
        actions,
    )


def read_paragraphs(inputs: Sequence[str], corpus: "Corpus") -> list[str]:
    """The paragraphs of a corpus's training documents, in random order.

    Args:
      inputs: what the corpus was prepared from, as for apps.pretrain.prepare.
      corpus: its number of training documents tells which of them were held out.
    """
    from kerasllm.data.documents import find_sources, read_documents

    documents = list(read_documents(find_sources(inputs, "blank_line"), "text"))
    wanted = corpus.split("train").num_documents
    documents = sorted(documents, key=lambda document: document.split_key)[len(documents) - wanted :]
    paragraphs = [line.strip() for document in documents for line in document.text.splitlines() if line.strip()]
    random.Random(1).shuffle(paragraphs)
    return paragraphs
