"""How do several ways of ranking compare? What the benchmarks of matching share: flags, tuned models, the table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import define_machine_flags
from kerasllm.config import Run, load_run, part_of
from kerasllm.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np

    from kerasllm.data import QueryPassages

FLAGS = flags.FLAGS


def define_table_flags(config: str, data: str) -> None:
    """Says where from, where to, and what is measured."""
    define_machine_flags()
    flags.DEFINE_string("config", config, "YAML file with the parts matching and reranking.")
    flags.DEFINE_multi_string("set", [], "Override of one setting, section.key=value; may be repeated.")
    flags.DEFINE_string("data", None, data, required=True)
    flags.DEFINE_string("init_from", None, "Hugging Face folder or pretraining workdir of the encoder.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the runs; a finished one is read, not computed.", required=True)
    flags.DEFINE_string("output", None, "JSON file of the table.")
    flags.DEFINE_integer("seed", 1, "Of training.")
    flags.DEFINE_enum("part", "test", ["test", "validation"], "What is ranked; settings are chosen on validation.")
    flags.DEFINE_bool("rerank", True, "Train and measure the re-ranker too.")


def run_of(part: str) -> Run:
    """The run of one of the models, with the program's seed."""
    return part_of(load_run(FLAGS.config, [*FLAGS.set, f"seed={FLAGS.seed}"]), part)


def tuned(part: str, train: "QueryPassages", validation: "QueryPassages") -> Any:
    """The model trained on these pairs; where that is done already, as it was."""
    from kerasllm import retrieval, training
    from kerasllm.fine_tuning import starting_point
    from kerasllm.trained import load

    run, tokenizer = starting_point(run_of(part), FLAGS.init_from, None)
    workdir = Path(FLAGS.workdir) / f"{part}-seed{run.seed}"
    strategy = training.make_strategy(run.train.strategy, FLAGS.num_devices)
    results = retrieval.tune(run, tokenizer, (train, validation), workdir, FLAGS.init_from, strategy)
    refuse_stopped(results, workdir)
    return load(workdir)


def refuse_stopped(results: dict[str, Any], workdir: Path) -> None:
    """Raises TrainingError where a signal ended the training: a model that is half trained is none to report."""
    if results["stopped"]:
        raise TrainingError(f"{workdir}: stopped by a signal at step {results['step']}. Start again to go on there.")


def with_bm25(cosines: "np.ndarray", by_words: "np.ndarray", dense_share: float) -> "np.ndarray":
    """The weighted fusion of retrieval.ReplyIndex, on scores [queries, passages]."""
    import numpy as np

    return dense_share * cosines + (1 - dense_share) * by_words / np.maximum(by_words.max(axis=1, keepdims=True), 1e-9)


def summary(ranks: "np.ndarray") -> dict[str, Any]:
    """Recall at 1, 5 and 10, MRR, and a 95 % interval of the first."""
    from kerasllm import decisions

    interval = decisions.bootstrap_interval(ranks == 1, seed=1)
    recalls = {f"recall@{k}": decisions.recall_at(ranks, k) for k in (1, 5, 10)}
    mrr = decisions.mean_reciprocal_rank(ranks)
    return {**recalls, "mrr": mrr, "interval": list(interval), "queries": len(ranks)}


def report(ranks_of_ways: dict[str, "np.ndarray"]) -> None:
    """Prints the table of all ways and writes it to --output."""
    table = {way: summary(ranks) for way, ranks in ranks_of_ways.items()}
    print(f"{'way':<46}{'recall@1':>9}{'interval':>14}{'@5':>7}{'@10':>7}{'MRR':>7}")
    for way, row in table.items():
        interval = "{:.3f}-{:.3f}".format(*row["interval"])
        others = "".join(f"{row[key]:>7.3f}" for key in ("recall@5", "recall@10", "mrr"))
        print(f"{way:<46}{row['recall@1']:>9.3f}{interval:>14}{others}")
    if FLAGS.output:
        Path(FLAGS.output).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
