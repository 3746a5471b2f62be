"""A log and its items in, one folder out: items.jsonl, and train, validation and test events, each user cut by time.

python -m apps.recommendation.prepare --items movielens=items.jsonl --events movielens=ratings.tsv --output data/films
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import define_run_flags, run_from_flags, run_program
from kerasllm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kerasllm.data.interactions import Catalogue, Events

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from and where to."""
    define_run_flags()
    flags.DEFINE_string("items", None, "[FORMAT=]FILE of the items: .jsonl, .tsv or .csv.", required=True)
    flags.DEFINE_multi_string("events", [], "[FORMAT=]FILE of the log; may be repeated.")
    flags.DEFINE_bool("drop_unknown", False, "Leave out events of items that --items does not describe.")
    flags.DEFINE_string("output", None, "Folder to make.", required=True)


def main() -> None:
    """Reads, splits, checks and writes, and prints what there is."""
    run = run_from_flags()
    if not FLAGS.events:
        raise ConfigError("--events is missing. Give [FORMAT=]FILE, for example movielens=ratings.tsv.")
    output = Path(FLAGS.output)
    if output.exists():
        raise DataError(f"{output}: exists already. Remove it or give another --output.")

    from apps.recommendation import formats
    from kerasllm.data import interactions

    settings = run.recommendation
    catalogue = formats.read_items(FLAGS.items)
    rows: list[Any] = []
    for spec in FLAGS.events:
        rows += formats.read_log(spec, catalogue.index, settings.event_values, FLAGS.drop_unknown)
    events = interactions.make_events(rows)
    parts = interactions.split_by_time(events, settings.test_share, settings.validation_share)
    parts = interactions.hold_out_items(parts, len(catalogue), settings.cold_item_share, run.seed)
    notes = interactions.findings(parts, catalogue)
    write(parts, catalogue, output)
    print(f"{len(catalogue):,} items in {len(catalogue.category_names)} categories, {len(events.user_names):,} users")
    for name, part in parts.items():
        liked = int((part.values >= settings.positive_from).sum())
        print(f"{name:<11}{len(part):>10,} events  {liked:>10,} liked")
    for note in notes:
        print(f"note: {note}")


def write(parts: "dict[str, Events]", catalogue: "Catalogue", output: Path) -> None:
    """Writes the folder under a temporary name and renames it once it is whole."""
    from kerasllm.data import interactions

    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        interactions.write_catalogue(catalogue, temporary / "items.jsonl")
        for name, events in parts.items():
            interactions.write_events(events, catalogue, temporary / f"{name}.tsv")
        temporary.rename(output)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None


if __name__ == "__main__":
    define_flags()
    run_program(main)
