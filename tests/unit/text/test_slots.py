"""Are values found in English and Chinese messages, the same in Python and in the graph, and do they fill replies?"""

from pathlib import Path

import pytest
import tensorflow as tf

from kerasllm.errors import DataError
from kerasllm.text import slots

SLOTS = slots.read_slots(Path(__file__).parents[3] / "apps" / "customer_service" / "slots.yaml")
NAMES = [slot.name for slot in SLOTS]
FOUND = [
    ("Where is order 20231105123?", {"order_number": "20231105123"}),
    ("my order number is AB-99812, thanks", {"order_number": "AB-99812"}),
    ("can you track parcel 48213 for me", {"order_number": "48213"}),
    ("it is about #55512", {"order_number": "55512"}),
    ("请把订单48213送到另一个地址", {"order_number": "48213"}),
    ("订单号：４８２１３ 还没到", {"order_number": "48213"}),
    ("我的单号是SF123456789", {"order_number": "SF123456789"}),
    ("I was charged 23.50 euros twice", {"amount": "23.50 euros"}),
    ("a charge of $1,250.00 that I do not know", {"amount": "$1,250.00"}),
    ("EUR 45 is too much", {"amount": "EUR 45"}),
    ("有一笔128元的扣款", {"amount": "128元"}),
    ("为什么收了我 3.5万元", {"amount": "3.5万元"}),
    ("扣了￥99", {"amount": "¥99"}),
    ("I ordered it on 2024-03-05", {"date": "2024-03-05"}),
    ("it came on 5th of March 2024", {"date": "5th of March 2024"}),
    ("since March 5, 2024 nothing happened", {"date": "March 5, 2024"}),
    ("are you open on Monday", {"date": "Monday"}),
    ("can you call me next Friday?", {"date": "next Friday"}),
    ("我3月5日下的单", {"date": "3月5日"}),
    ("下周三营业吗", {"date": "下周三"}),
    ("My name is Anna Keller, I wait", {"name": "Anna Keller"}),
    ("你好，我叫王小明，想退货", {"name": "王小明"}),
    ("I ordered chairs 12 days ago", {"duration": "12 days"}),
    ("下单12天了", {"duration": "12天"}),
    ("hello", {}),
    ("", {}),
    ("I have 3 questions about may and orders", {}),
    ("my name is not important", {}),
    ("order 66", {}),
]


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_values_of_the_table_are_found_in_python(text, expected):
    normal = slots.normal_form(text)
    assert {name: normal[start:stop] for start, stop, name in slots.find_spans(normal, SLOTS)} == expected


def test_the_graph_finds_the_same_values_as_python():
    find = tf.function(lambda texts: slots.find_values(texts, SLOTS))
    found = find(tf.constant([text for text, _ in FOUND])).numpy()
    for (text, expected), row in zip(FOUND, found, strict=True):
        assert {name: value.decode() for name, value in zip(NAMES, row, strict=True) if value} == expected, text


def test_a_bare_number_counts_only_for_the_slot_that_was_asked_for():
    order, amount = NAMES.index("order_number"), NAMES.index("amount")
    texts = tf.constant(["48213", "48213", "48213", "it is 48213."])
    found = slots.find_values(texts, SLOTS, bare_for=tf.constant([-1, order, amount, order])).numpy()
    assert [value.decode() for value in found[:, order]] == ["", "48213", "", "48213"]
    assert [value.decode() for value in found[:, amount]] == ["", "", "48213", ""]


def test_the_last_value_of_a_conversation_wins_where_asked():
    texts = tf.constant(["customer: order 11111 please\nassistant: which?\ncustomer: I mean order 22222"])
    order = NAMES.index("order_number")
    assert slots.find_values(texts, SLOTS)[0, order] == b"11111"
    assert slots.find_values(texts, SLOTS, last=True)[0, order] == b"22222"


def test_a_template_is_filled_or_its_first_missing_slot_is_asked_for():
    templates = slots.Templates(
        ["We send {amount} back for order {order_number}.", "订单{order_number}已取消。", "Due on [date].", "Hello."],
        SLOTS,
    )
    values = [[b""] * len(SLOTS) for _ in range(5)]
    values[0][NAMES.index("amount")], values[0][NAMES.index("order_number")] = b"5 euros", b"12345"
    values[1][NAMES.index("amount")] = b"5 euros"
    filled = tf.function(templates.fill)(tf.constant([0, 0, 1, 2, 3]), tf.constant(values))
    assert filled["text"].numpy()[0] == b"We send 5 euros back for order 12345."
    assert filled["missing"].numpy().tolist() == [-1, NAMES.index("order_number"), NAMES.index("order_number"), -1, -1]
    asks = [ask.decode() for ask in filled["ask"].numpy()]
    assert asks == [
        "",
        "Could you give me the order number, please?",
        "请问您的订单号是多少？",
        "",
        "",
    ]
    assert filled["text"].numpy()[3] == b"Due on [date]."
    assert filled["has_blank"].numpy().tolist() == [False, False, False, True, False]


def test_braces_in_a_message_are_not_read_as_a_template():
    templates = slots.Templates(["Hello {name}."], SLOTS)
    values = [[b""] * len(SLOTS)]
    values[0][NAMES.index("name")] = b"{amount}"
    assert templates.fill(tf.constant([0]), tf.constant(values))["text"].numpy()[0] == b"Hello {amount}."


def test_words_become_a_slot_and_files_survive_a_round_trip(tmp_path):
    path = tmp_path / "goods.yaml"
    path.write_text("product: {words: [desk, desk lamps, 台灯], ask: {en: 'Which one?'}}\n", encoding="utf-8")
    goods = slots.read_slots(path)
    assert slots.find_spans("two Desk Lamps", goods) == [(4, 14, "product")]
    assert slots.find_spans("desktop", goods) == []
    assert slots.find_values(tf.constant(["我的台灯坏了"]), goods).numpy().tolist() == [["台灯".encode()]]
    slots.write_slots((*SLOTS, *goods), tmp_path / "all.yaml")
    assert slots.read_slots(tmp_path / "all.yaml") == (*SLOTS, *goods)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("a: {patterns: ['(x)(y)']}", "2 groups"), ("a: {patterns: ['(']}", "not a pattern"), ("a: {form: x}", "expected"),
     ("a: {ask: {en: x}}", "neither"), ("- x", "mapping")],
)  # fmt: skip
def test_a_bad_slot_file_says_where_and_why(tmp_path, content, reason):
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=reason) as error:
        slots.read_slots(path)
    assert "bad.yaml" in str(error.value)
