"""Are dialogues read, masked, turned into templates, and dealt without leaks? Are documents cut with their source?"""

import dataclasses
import json
from pathlib import Path

import pytest

from apps.customer_service import documents, formats, prepare, templates
from apps.customer_service.formats import Pair
from kerasllm.config import Data
from kerasllm.errors import ConfigError, DataError
from kerasllm.text.slots import read_slots

SLOTS = read_slots(prepare.SLOTS)


def test_turns_of_a_dialogue_become_pairs_with_their_context(tmp_path):
    path = tmp_path / "talks.jsonl"
    turns = [
        ("USER", "hi", ["greet"]),
        ("SYSTEM", "hello", []),
        ("USER", "cancel it", []),
        ("SYSTEM", "which order?", []),
    ]
    dialogue = {"turns": [{"speaker": who, "text": text, "intent": intent} for who, text, intent in turns]}
    simple = {"turns": [{"speaker": "customer", "text": "在吗"}, {"speaker": "agent", "text": "在的"}]}
    path.write_text(json.dumps(dialogue) + "\n\n" + json.dumps(simple, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = formats.read(f"sgd={path}")
    assert rows.pairs == [
        Pair("hi", "hello", "", "greet", "talks.jsonl:1"),
        Pair("cancel it", "which order?", "customer: hi\nassistant: hello", "", "talks.jsonl:1"),
        Pair("在吗", "在的", "", "", "talks.jsonl:3"),
    ]
    assert rows.intents == [("hi", "greet")]


def test_public_tables_are_read_by_name(tmp_path):
    (tmp_path / "faq.tsv").write_text("question\tanswer\tclass\nHow?\tSo.\tcards\n", encoding="utf-8")
    (tmp_path / "clinc.tsv").write_text("text\tintent\tdomain\nHow?\toos\tx\n", encoding="utf-8")
    assert formats.read(f"bank_faq={tmp_path}/faq.tsv").pairs == [Pair("How?", "So.", intent="cards")]
    assert formats.read(f"clinc150={tmp_path}/clinc.tsv").intents == [("How?", "oos")]


@pytest.mark.parametrize(
    ("spec", "content", "error", "reason"),
    [
        ("nope", "", ConfigError, "FORMAT=FILE"),
        ("other=x.tsv", "", ConfigError, "Formats: pairs"),
        ("faq={}", "question\tanswer\n\tx\n", DataError, ":2: the question or its reply is empty"),
        ("sgd={}", '{"turns": 3}\n', DataError, ":1: no list 'turns'"),
        ("sgd={}", '{"turns": [{"speaker": 1}]}\n', DataError, ":1: a turn is"),
        ("sgd={}", "{\n", DataError, ":1: not JSON"),
        ("sgd={}", "[]\n", DataError, ":1: a list"),
    ],
)
def test_bad_input_is_named_with_its_line(tmp_path, spec, content, error, reason):
    path = tmp_path / "rows.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=reason):
        formats.read(spec.format(path))


def test_values_become_slots_where_customers_name_them_and_blanks_where_only_the_company_knows():
    pairs = [
        Pair(f"cancel order {number}", f"Order {number} is cancelled; the money comes within {days} days.")
        for number, days in ((11111, 3), (22222, 9), (33333, 3))
    ]
    found = {pair.reply for pair in templates.find_templates(pairs, SLOTS)}
    assert found == {"Order {order_number} is cancelled; the money comes within [duration]."}


def test_a_value_that_never_changes_stays_unless_it_is_personal():
    pairs = [Pair("can I return it", "Yes, within 30 days."), Pair("退货吗", "订单48213可以退货。")]
    replies = [pair.reply for pair in templates.find_templates(pairs, SLOTS)]
    assert replies == ["Yes, within 30 days.", "订单[order_number]可以退货。"]


def test_what_the_assistant_said_is_not_what_the_customer_named():
    pairs = [Pair("thanks", f"See you on {day}.", f"assistant: Come on {day}.") for day in ("Monday", "Friday")]
    assert {pair.reply for pair in templates.find_templates(pairs, SLOTS)} == {"See you on [date]."}


def test_two_different_dates_of_one_reply_are_never_filled_with_the_same_value():
    pairs = [
        Pair("between Monday and Friday?", "Between Monday and Friday, yes."),
        Pair("between Tuesday and Friday?", "Between Tuesday and Friday, yes."),
    ]
    assert {pair.reply for pair in templates.find_templates(pairs, SLOTS)} == {"Between [date] and [date], yes."}


def test_a_dialogue_stays_in_one_part_and_a_test_question_leaves_the_others():
    talks = [Pair(f"turn {turn} of {talk}", "r", group=f"talk {talk}") for talk in range(200) for turn in range(2)]
    test = [Pair("turn 0 of 7", "r")]
    parts = prepare.split_pairs({"train": talks, "validation": [], "test": test}, Data(validation_share=0.3))
    groups = {part: {pair.group for pair in parts[part]} for part in ("train", "validation")}
    assert not groups["train"] & groups["validation"]
    assert all(groups.values())
    assert parts["test"] == test
    assert len(parts["train"]) + len(parts["validation"]) == 399
    assert all(pair.question != "turn 0 of 7" for part in ("train", "validation") for pair in parts[part])


def test_customers_data_is_masked_and_a_published_number_of_the_company_stays():
    rows = formats.Rows([Pair("mail me at a.b@example.com", "I wrote to a.b@example.com"), Pair("hotline?", "+49 30 1234567")], [("a.b@example.com", "x")])  # fmt: skip # noqa: E501
    masked = prepare._masked(rows)
    assert masked.pairs[0] == Pair("mail me at <EMAIL>", "I wrote to <EMAIL>")
    assert masked.pairs[1].reply == "+49 30 1234567"
    assert masked.intents == [("<EMAIL>", "x")]
    in_dialogue = dataclasses.replace(rows.pairs[1], group="talk 1")
    assert prepare._masked(formats.Rows([in_dialogue], [])).pairs[0].reply == "<PHONE>"


def test_what_is_written_can_be_read_again(tmp_path):
    pairs = [Pair("a\tb", "reply {order_number}", "customer: x\nassistant: y", "i")]
    prepare.write(
        tmp_path, {"train": pairs, "validation": [], "test": []}, {part: [] for part in prepare.SPLITS}, "oos"
    )
    assert formats.read(f"pairs={tmp_path}/pairs/train.tsv").pairs == [dataclasses.replace(pairs[0], question="a b")]
    assert (tmp_path / "replies.tsv").read_text() == "reply\ttimes_used\nreply {order_number}\t1\n"


def test_documents_are_cut_at_headings_and_paragraphs_with_their_source(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "cards.md").write_text(
        "Intro.\n\n# Fees\nOne\nline.\n\nTwo.\n```\n# no heading\n```\n## Limits ##\n" + "Long one. " * 100, "utf-8"
    )
    (tmp_path / "other.pdf").write_text("not read")
    passages = documents.read_documents(tmp_path)
    assert [(passage.source, passage.heading) for passage in passages[:2]] == [
        ("sub/cards.md", ""),
        ("sub/cards.md#Fees", "Fees"),
    ]
    assert passages[1].text == "One line. Two. # no heading"
    limits = passages[2:]
    assert len(limits) == 2
    assert all(passage.heading == "Limits" and len(passage.text) <= documents.MOST_CHARACTERS for passage in limits)


def test_a_folder_without_documents_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no passage"):
        documents.read_documents(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        documents.read_documents(Path(tmp_path / "none"))
