"""How does the recommender compare with popularity, item-kNN, BPR and EASE, and on new items with genres and BM25?

python -m benchmarks.recommendation_table --data DATA/ml100k_text --init_from MINILM --workdir runs/recommendation \
    --output recommendation.json

Warm: each user's last 20 % of events by time are the test; liked (4 or more) is to be found among the whole catalogue
without what the user had. Cold: 15 % of the items lose all their events before the cut; the test's events of these
items are to be found among these items alone. `--part validation` judges the validation part instead: settings are
chosen there. On the test part the recommender is trained with recommendation.train_on_validation, as the baselines are.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import define_machine_flags, run_program
from kerasllm.config import load_run

if TYPE_CHECKING:
    import numpy as np

    from kerasllm.data.interactions import Catalogue, Events

FLAGS = flags.FLAGS
COLD_SHARE = 0.15


def define_flags() -> None:
    """Says where from, where to, and what is measured."""
    define_machine_flags()
    flags.DEFINE_string("config", "configs/recommendation/base.yaml", "YAML file of the recommender.")
    flags.DEFINE_multi_string("set", [], "Override of one setting, section.key=value; may be repeated.")
    flags.DEFINE_string("data", None, "Folder of ml100k_text: items.jsonl and ratings.tsv.", required=True)
    flags.DEFINE_string("init_from", None, "Text encoder: Hugging Face folder or training workdir.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the runs; a finished one is read, not computed.", required=True)
    flags.DEFINE_string("output", None, "JSON file of the table.")
    flags.DEFINE_integer("seed", 1, "Of training and of the choice of cold items.")
    flags.DEFINE_enum("part", "test", ["test", "validation"], "What is judged.")
    flags.DEFINE_multi_enum("table", ["warm", "cold"], ["warm", "cold"], "Which tables.")


def main() -> None:
    """Computes and prints both tables."""
    from apps.recommendation import formats
    from kerasllm import training
    from kerasllm.data import interactions

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    settings = load_run(FLAGS.config, FLAGS.set).recommendation
    catalogue = formats.read_items(f"movielens={FLAGS.data}/items.jsonl")
    rows = formats.read_log(f"movielens={FLAGS.data}/ratings.tsv", catalogue.index, {}, drop_unknown=False)
    log = interactions.make_events(rows)
    tables = {}
    for table in FLAGS.table:
        parts = interactions.split_by_time(log, settings.test_share, settings.validation_share)
        if FLAGS.part == "validation":
            parts = {"train": parts["train"], "validation": parts["validation"], "test": parts["validation"]}
        share = COLD_SHARE if table == "cold" else 0.0
        parts = interactions.hold_out_items(parts, len(catalogue), share, FLAGS.seed)
        tables[table] = table_of(table, parts, catalogue)
    if FLAGS.output:
        Path(FLAGS.output).write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


def table_of(table: str, parts: "dict[str, Events]", catalogue: "Catalogue") -> dict[str, Any]:
    """One table: each way's metrics, with the difference of its nDCG to the recommender's, user by user."""
    import numpy as np

    from apps.recommendation import judging
    from kerasllm import recommending
    from kerasllm.decisions import bootstrap_interval

    started = time.monotonic()
    recommender = trained(table, parts, catalogue)
    seconds = time.monotonic() - started
    known = parts["train"] if FLAGS.part == "validation" else parts["train"].with_events(parts["validation"])
    later = parts["cold"] if table == "cold" else parts["test"]
    from_here = recommender.run.recommendation.positive_from
    users = [user for user in judging.judged_users(later, from_here) if len(known.of_user(user))]
    allowed = held_out(catalogue) if table == "cold" else None
    ways = baselines(table, known, users, catalogue, recommender.tables.categories[1:], from_here, allowed)
    ways["recommender"] = recommending.score_users(recommender, users, known)
    texts = recommender.tables.text[1:]
    results = {
        name: judging.judge(scores, users, known, later, catalogue, from_here, texts, allowed)
        for name, scores in ways.items()
    }
    own = np.array(results["recommender"]["per_user"])
    print(f"{table}, {FLAGS.part} part, seed {FLAGS.seed}; the recommender took {seconds:.0f} s")
    print(f"{'':<26}{'nDCG@10':>8}  {'interval':<18}{'recall@10':>10}{'AUC':>8}  recommender's lead in nDCG@10")
    for name, result in results.items():
        lead = own - np.array(result.pop("per_user"))
        result["lead_interval"] = bootstrap_interval(lead[~np.isnan(lead)])
        low, high = result["ndcg@10_interval"]
        print(
            f"{name:<26}{result['ndcg@10']:>8.4f}  {low:.4f} to {high:.4f}  {result['recall@10']:>9.4f}"
            f"{result['auc']:>8.4f}  {result['lead_interval'][0]:+.4f} to {result['lead_interval'][1]:+.4f}"
        )
    print(judging.report(results["recommender"]))
    return {**results, "seconds": seconds}


def trained(table: str, parts: "dict[str, Events]", catalogue: "Catalogue") -> Any:
    """The recommender of this table; where it is trained already, as it was."""
    from kerasllm import recommending, training

    overrides = [*FLAGS.set, f"seed={FLAGS.seed}"]
    if FLAGS.part == "test":
        overrides.append("recommendation.train_on_validation=true")
    run = load_run(FLAGS.config, overrides)
    workdir = Path(FLAGS.workdir) / f"{table}-{FLAGS.part}-{FLAGS.seed}"
    if not (workdir / "metrics.json").exists():
        encoder = recommending.make_encoder(run, FLAGS.init_from)
        recommending.fit(run, catalogue, parts, encoder, workdir, FLAGS.num_devices, [training.TensorBoard()])
    return recommending.load(workdir)


def held_out(catalogue: "Catalogue") -> "np.ndarray":
    """[I] bool: the items chosen as cold, as interactions.hold_out_items chooses them."""
    from kerasllm.data import interactions

    return interactions.choose_items(len(catalogue), COLD_SHARE, FLAGS.seed)


def baselines(
    table: str,
    known: "Events",
    users: list[str],
    catalogue: "Catalogue",
    shares: "np.ndarray",
    positive_from: float,
    is_new: "np.ndarray | None",
) -> "dict[str, np.ndarray]":
    """Scores [U, I] of each baseline for these users."""
    import numpy as np

    from benchmarks.baselines import bm25, bpr, ease, item_knn, popularity

    seen, liked = np.zeros([2, len(known.user_names), len(catalogue)], np.float32)
    seen[known.users, known.items] = 1
    likes = known.take(known.values >= positive_from)
    liked[likes.users, likes.items] = 1
    row_of = {name: place for place, name in enumerate(known.user_names)}
    rows = [row_of[user] for user in users]
    if table == "cold":
        assert is_new is not None
        mine = [likes.of_user(user).items[-10:] for user in users]
        queries = [" ".join(catalogue.texts[item] for item in items) for items in mine]
        return {
            "popularity by genre": popularity.category_scores(liked, shares, is_new)[rows],
            "popularity by genre, all": np.broadcast_to(
                popularity.category_scores(liked.sum(axis=0, keepdims=True), shares, is_new),
                [len(rows), len(catalogue)],
            ),
            "BM25 over text": bm25.scores(catalogue.texts, queries),
        }
    return {
        "popularity": popularity.scores(liked)[rows],
        "item-kNN": item_knn.scores(liked)[rows],
        "BPR": bpr.scores(liked)[rows],
        "EASE, all events": ease.scores(seen)[rows],
        "EASE, liked": ease.scores(liked)[rows],
    }


if __name__ == "__main__":
    define_flags()
    run_program(main)
