"""Takes new items and newer events into a trained recommender without training; export it again afterwards.

python -m apps.recommendation.index --workdir runs/films --items new_items.jsonl --events today.tsv
"""

from absl import flags

from apps.flags import run_program
from kerasllm.errors import ConfigError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says what is new."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("items", None, "[FORMAT=]FILE of items; those that the catalogue has stay as they are.")
    flags.DEFINE_multi_string("events", [], "[FORMAT=]FILE of events since training; may be repeated.")


def main() -> None:
    """Embeds the new items, and makes affinities and popularity anew from the whole log."""
    if not (FLAGS.items or FLAGS.events):
        raise ConfigError("nothing is new: give --items, --events or both.")

    from apps.recommendation import formats
    from kerasllm import recommending
    from kerasllm.data import interactions

    old = recommending.load(FLAGS.workdir)
    items = formats.read_items(FLAGS.items) if FLAGS.items else None
    index = (old.catalogue if items is None else old.catalogue.with_items(items)).index
    values = old.run.recommendation.event_values
    rows = [row for spec in FLAGS.events for row in formats.read_log(spec, index, values, drop_unknown=False)]
    new = recommending.rebuild(FLAGS.workdir, items, interactions.make_events(rows) if rows else None)
    print(f"items   {len(old.catalogue):>10,} -> {len(new.catalogue):,}")
    print(f"events  {len(old.events):>10,} -> {len(new.events):,}")


if __name__ == "__main__":
    define_flags()
    run_program(main)
