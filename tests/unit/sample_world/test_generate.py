"""Is the sample world the same everywhere, of the form it says, and neither trivial nor noise?"""

import collections
import hashlib
import json
import re

import pytest

from apps.sample_world.generate import generate, write_world
from kerasllm.errors import DataError

SENTIMENTS = {"positive", "neutral", "negative"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "one"
    write_world(folder, seed=1, megabytes=1.0)
    return folder


def table(path):
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    names = header.split("\t")
    rows = [line.split("\t") for line in lines]
    assert all(len(row) == len(names) for row in rows), path
    return [dict(zip(names, row, strict=True)) for row in rows]


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    write_world(tmp_path / "again", seed=1, megabytes=1.0)
    assert fingerprint(tmp_path / "again") == fingerprint(folder)


def test_another_seed_gives_another_world(folder, tmp_path):
    write_world(tmp_path / "other", seed=2, megabytes=1.0)
    first, other = fingerprint(folder), fingerprint(tmp_path / "other")
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name != "README.txt")


def test_the_size_is_roughly_the_one_asked_for(folder):
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert 0.8e6 < size < 1.3e6


def test_the_folder_says_that_it_is_synthetic(folder):
    assert (folder / "README.txt").read_text(encoding="utf-8").startswith("SYNTHETIC DATA.")


def test_every_corpus_is_made_of_documents_with_several_sentences(folder):
    for path in sorted((folder / "corpus").iterdir()):
        documents = path.read_text(encoding="utf-8").split("<DOC> ")[1:]
        assert len(documents) > 50, path
        sentences = [len(re.findall(r"[.。]", document)) for document in documents]
        assert sum(count >= 3 for count in sentences) > 0.95 * len(documents), path


def test_no_slot_of_a_form_is_left_open(folder):
    for path in [*(folder / "corpus").iterdir(), *folder.glob("*/*.tsv")]:
        assert not re.search(r"[{}]", path.read_text(encoding="utf-8")), path


def test_chinese_text_holds_no_english_words(folder):
    for row in table(folder / "sentiment/train.tsv"):
        has_latin = re.search(r"[A-Za-z]", row["text"]) is not None
        assert has_latin == (row["language"] == "en"), row


def test_sentiments_are_balanced_in_both_languages_and_hardly_ever_repeated(folder):
    rows = table(folder / "sentiment/train.tsv")
    counts = collections.Counter((row["language"], row["label"]) for row in rows)
    assert set(counts) == {(language, label) for language in ("en", "zh") for label in SENTIMENTS}
    assert min(counts.values()) > 0.25 * len(rows) / 2
    assert len({row["text"] for row in rows}) > 0.98 * len(rows)


def test_test_sentences_speak_of_companies_that_training_does_not_know(folder):
    # An English company is an invented word and its trade.
    trades = "Electronics Software Energy Foods Bank Shipping Pharma Paper Motors Textiles Telecom Construction"
    company = re.compile(rf"\b[A-Z][a-z]+ (?:{'|'.join(trades.split())})\b")

    def subjects(name):
        rows = [row for row in table(folder / name) if row["language"] == "en"]
        named = [set(company.findall(row["text"])) for row in rows]
        return {next(iter(names)) for names in named if len(names) == 1}

    unseen = subjects("sentiment/test.tsv")
    assert len(unseen) > 20
    assert not unseen & subjects("sentiment/train.tsv")


def test_sentiment_turns_round_when_the_event_does_not_happen(folder):
    # "did not ... as ... feared" is good news and "did not ... as ... hoped" bad news, but for the noisy labels.
    rows = [row for row in table(folder / "sentiment/train.tsv") if "did not" in row["text"]]
    plain = [row for row in rows if not row["text"].startswith(("Although", "While")) and ", but " not in row["text"]]
    feared = collections.Counter(row["label"] for row in plain if "feared" in row["text"])
    hoped = collections.Counter(row["label"] for row in plain if "hoped" in row["text"])
    assert feared["positive"] > 0.85 * feared.total() > 0
    assert hoped["negative"] > 0.85 * hoped.total() > 0


def test_customers_questions_have_replies_and_intents_in_both_languages(folder):
    rows = table(folder / "customer_service/faq.tsv")
    intents = {language: {row["class"] for row in rows if row["language"] == language} for language in ("en", "zh")}
    assert intents["en"] == intents["zh"]
    assert len(intents["en"]) == 12
    assert all(row["question"] and row["answer"] for row in rows)


def test_dialogues_alternate_between_user_and_system(folder):
    for line in (folder / "customer_service/dialogues.jsonl").read_text(encoding="utf-8").splitlines():
        speakers = [turn["speaker"] for turn in json.loads(line)["turns"]]
        assert speakers == ["USER", "SYSTEM"] * (len(speakers) // 2)
        assert len(speakers) >= 4


def test_ratings_are_of_known_items_in_order_of_time_and_never_twice(folder):
    items = [json.loads(line) for line in (folder / "recommendation/items.jsonl").read_text("utf-8").splitlines()]
    released = {item["item_id"]: item["released"] for item in items}
    by_user = collections.defaultdict(list)
    for row in table(folder / "recommendation/ratings.tsv"):
        assert 1 <= int(row["rating"]) <= 5
        assert released[int(row["item_id"])] <= int(row["timestamp"])
        by_user[row["user_id"]].append((int(row["timestamp"]), row["item_id"]))
    for rated in by_user.values():
        assert rated == sorted(rated)
        assert len({item for _, item in rated}) == len(rated)


def test_a_user_s_taste_shows_in_genres(folder):
    # With tastes, the mean rating of a user's best-liked genre lies well above that of the least-liked one.
    items = [json.loads(line) for line in (folder / "recommendation/items.jsonl").read_text("utf-8").splitlines()]
    genre = {str(item["item_id"]): item["genres"][0] for item in items}
    rated = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in table(folder / "recommendation/ratings.tsv"):
        rated[row["user_id"]][genre[row["item_id"]]].append(int(row["rating"]))
    gaps = []
    for genres in rated.values():
        # Halves apart: the genre is chosen on one half of the ratings, the gap is measured on the other.
        halves = {name: (scores[::2], scores[1::2]) for name, scores in genres.items() if len(scores) >= 4}
        if len(halves) >= 2:
            order = sorted(halves, key=lambda name: sum(halves[name][0]) / len(halves[name][0]))
            low, high = (halves[name][1] for name in (order[0], order[-1]))
            gaps.append(sum(high) / len(high) - sum(low) / len(low))
    assert sum(gaps) / len(gaps) > 0.25  # without tastes 0, give or take 0.1


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="exists and is not empty. Give --output a new folder"):
        generate(tmp_path, seed=1, megabytes=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_generator_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("apps.sample_world.generate._write_recommendation", fail)
    with pytest.raises(DataError, match="no space left"):
        generate(tmp_path / "world", seed=1, megabytes=0.1)
    assert list(tmp_path.iterdir()) == []
