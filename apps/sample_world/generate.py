"""Writes the sample world: a few megabytes of synthetic bilingual text, labels, dialogues and ratings.

    python -m apps.sample_world.generate --output DIR [--seed 1] [--megabytes 4]

The same seed and size give the same bytes on every machine. Everything is invented and written for this project.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from absl import flags

from apps.flags import run_program
from apps.sample_world import customer_service, encyclopedia, market_news, recommendation
from apps.sample_world.world import Dice, World, make_world
from kerasllm.errors import ConfigError, DataError

FLAGS = flags.FLAGS
LANGUAGES = ("en", "zh")

README = """SYNTHETIC DATA. Companies, people, towns, figures, customers and films in this folder are invented.

Written by apps.sample_world.generate (seed {seed}, {megabytes} megabytes) to show the programs at work where no real
data is at hand. Scores on it say nothing about scores on real text.

corpus/            market_news_*.txt, encyclopedia_*.txt: documents after "<DOC> title" lines; en English, zh Chinese
sentiment/         train.tsv, test.tsv: text, label (positive / neutral / negative), topic, language;
                   test.tsv speaks of companies that train.tsv does not know;
                   {noise:.0%} of the labels are wrong on purpose
customer_service/  train.tsv, test.tsv: text, intent, language; dialogues.jsonl: several turns;
                   faq.tsv: question, answer, class, language
recommendation/    items.jsonl, users.tsv, ratings.tsv (user_id, item_id, rating 1 to 5, timestamp in seconds)
"""


def generate(output: Path, seed: int, megabytes: float) -> None:
    """Writes the whole folder; it appears under its name only when it is complete.

    Raises:
      DataError: the folder exists and is not empty, or cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output}: exists and is not empty. Give --output a new folder, or delete this one.")
    partial = output.with_name(f"{output.name}.partial-{os.getpid()}")
    try:
        write_world(partial, seed, megabytes)
        if output.exists():
            output.rmdir()
        partial.rename(output)
    except OSError as error:
        raise DataError(f"{output}: cannot write the sample world ({error}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_world(folder: Path, seed: int, megabytes: float) -> None:
    """Writes every file of the sample world into a folder; sizes grow with `megabytes`."""
    world = make_world(seed)
    scale = megabytes / 4
    corpus_bytes = int(megabytes * 1e6 * 0.6 / 4)  # 60 % of the bytes are corpora: two kinds in two languages
    for language in LANGUAGES:
        reports = market_news.reports(Dice(seed, "news", language), world, language)
        _write_corpus(folder / f"corpus/market_news_{language}.txt", reports, int(1.5 * corpus_bytes))
        entries = encyclopedia.articles(Dice(seed, "encyclopedia", language), world, language)
        _write_corpus(folder / f"corpus/encyclopedia_{language}.txt", entries, int(0.5 * corpus_bytes))
    for split, rows in (("train", 3000), ("test", 500)):
        _write_sentiment(folder / f"sentiment/{split}.tsv", world, seed, split, int(scale * rows))
    _write_customer_service(folder / "customer_service", seed, scale)
    _write_recommendation(folder / "recommendation", seed, scale)
    readme = README.format(seed=seed, megabytes=megabytes, noise=market_news.LABEL_NOISE)
    _write(folder / "README.txt", [readme])


def _write_corpus(path: Path, documents: Iterable[str], size: int) -> None:
    def until_full() -> Iterator[str]:
        written = 0
        for document in documents:
            yield document
            written += len(document.encode())
            if written >= size:
                return

    _write(path, until_full())


def _write_sentiment(path: Path, world: World, seed: int, split: str, rows_per_language: int) -> None:
    companies = world.companies if split == "train" else world.unseen
    rows = ["text\tlabel\ttopic\tlanguage\n"]
    for language in LANGUAGES:
        said = market_news.labelled_sentences(Dice(seed, "sentiment", split, language), world, companies, language)
        rows += [f"{row.text}\t{row.label}\t{row.topic}\t{row.language}\n" for row in islice(said, rows_per_language)]
    _write(path, rows)


def _write_customer_service(folder: Path, seed: int, scale: float) -> None:
    for split, count in (("train", 1500), ("test", 250)):
        rows = ["text\tintent\tlanguage\n"]
        for language in LANGUAGES:
            asked = customer_service.exchanges(Dice(seed, "intents", split, language), language)
            rows += [f"{row.question}\t{row.intent}\t{row.language}\n" for row in islice(asked, int(scale * count))]
        _write(folder / f"{split}.tsv", rows)
    faq, talks = ["question\tanswer\tclass\tlanguage\n"], []
    for language in LANGUAGES:
        asked = customer_service.exchanges(Dice(seed, "faq", language), language)
        answered = islice(asked, int(scale * 900))
        faq += [f"{row.question}\t{row.reply}\t{row.intent}\t{row.language}\n" for row in answered]
        spoken = customer_service.dialogues(Dice(seed, "dialogues", language), language)
        talks += [json.dumps(talk, ensure_ascii=False) + "\n" for talk in islice(spoken, int(scale * 250))]
    _write(folder / "faq.tsv", faq)
    _write(folder / "dialogues.jsonl", talks)


def _write_recommendation(folder: Path, seed: int, scale: float) -> None:
    num_items, num_users = max(40, int(scale * 400)), max(10, int(scale * 300))
    items = recommendation.make_items(Dice(seed, "items"), num_items)
    descriptions = (
        {
            "item_id": item.item_id,
            "title": item.title.en,
            "title_zh": item.title.zh,
            "genres": item.genres,
            "synopsis": item.synopsis.en,
            "synopsis_zh": item.synopsis.zh,
            "released": item.released,
        }
        for item in items
    )
    _write(folder / "items.jsonl", (json.dumps(item, ensure_ascii=False) + "\n" for item in descriptions))
    ages = Dice(seed, "users")
    _write(
        folder / "users.tsv",
        ["user_id\tage\n", *(f"{user + 1}\t{ages.between(16, 80)}\n" for user in range(num_users))],
    )
    rated = recommendation.ratings(Dice(seed, "ratings"), items, num_users)
    rows = (f"{user}\t{item}\t{rating}\t{moment}\n" for user, item, rating, moment in rated)
    _write(folder / "ratings.tsv", ["user_id\titem_id\trating\ttimestamp\n", *rows])


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def main() -> None:
    """Writes the folder that the flags name."""
    if FLAGS.megabytes <= 0:
        raise ConfigError(f"--megabytes={FLAGS.megabytes}: give a size above 0.")
    output = Path(FLAGS.output)
    generate(output, FLAGS.seed, FLAGS.megabytes)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{output}: sample world (synthetic), {size / 1e6:.1f} MB")


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "Folder to write; must be new or empty.", required=True)
    flags.DEFINE_integer("seed", 1, "Another seed gives another world.")
    flags.DEFINE_float("megabytes", 4.0, "Rough size of everything together.")
    run_program(main)
