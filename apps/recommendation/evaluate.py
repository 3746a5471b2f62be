"""Scores a recommender on later events: nDCG@10, recall, AUC, coverage, diversity, with intervals.

python -m apps.recommendation.evaluate --workdir runs/films --data data/films/test.tsv \
    --history data/films/validation.tsv --output runs/films/test.json
"""

import json
from pathlib import Path

from absl import flags

from apps.flags import run_program
from apps.outputs import writing_to
from kerasllm.errors import DataError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says what is scored, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("data", None, "Events to find: user, item, time, value.", required=True)
    flags.DEFINE_multi_string("history", [], "More events that came before them, beside the log of the workdir.")
    flags.DEFINE_bool("new_items", False, "Rank only items without an event in the log of the workdir (cold start).")
    flags.DEFINE_string("output", None, "JSON of the metrics.", required=True)


def main() -> None:
    """Ranks the catalogue for every user with something to find, prints the metrics and writes them."""
    from apps.recommendation import judging
    from kerasllm import recommending
    from kerasllm.data import interactions

    recommender = recommending.load(FLAGS.workdir)
    catalogue, settings = recommender.catalogue, recommender.run.recommendation
    later = interactions.read_events(FLAGS.data, catalogue)
    known = recommender.events
    for path in FLAGS.history:
        known = known.with_events(interactions.read_events(path, catalogue))
    interactions.refuse_future(known, later, f"{FLAGS.workdir} and {FLAGS.data}")
    users = judging.judged_users(later, settings.positive_from)
    if not users:
        raise DataError(f"{FLAGS.data}: no event has a value of {settings.positive_from} or more: nothing to find.")
    is_new = recommender.tables.is_cold[1:] > 0
    if FLAGS.new_items and not is_new.any():
        raise DataError(f"--new_items: every item of {FLAGS.workdir} has an event in its log. Leave the flag out.")
    scores = recommending.score_users(recommender, users, known)
    allowed = is_new if FLAGS.new_items else None
    texts = recommender.tables.text[1:]
    result = judging.judge(scores, users, known, later, catalogue, settings.positive_from, texts, allowed)
    per_user = result.pop("per_user")
    output = Path(FLAGS.output)
    content = {"data": Path(FLAGS.data).name, **result, f"ndcg@{judging.K}_of": dict(zip(users, per_user, strict=True))}
    with writing_to(output):
        output.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(judging.report(result))


if __name__ == "__main__":
    define_flags()
    run_program(main)
