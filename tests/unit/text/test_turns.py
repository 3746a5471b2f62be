"""Does a query hold the newest turns first, and is a request found again after the assistant asked back?"""

import tensorflow as tf

from kerasllm.text.turns import join_turns, open_request, query_texts

ASKS = [["Which order (number)?", "订单号是多少？"], [], ["What is it? [amount]"]]


def test_a_query_is_the_question_then_the_newest_turns():
    context = join_turns([("customer", "first"), ("assistant", "second\nline"), ("customer", "third")])
    assert context == "customer: first\nassistant: second line\ncustomer: third"
    texts = tf.function(lambda q, c: query_texts(q, c, 2))(tf.constant(["now", "now"]), tf.constant([context, ""]))
    assert texts.numpy().tolist() == [b"now ; third ; second line", b"now"]
    assert query_texts(tf.constant(["order 123456, 12 days"]), tf.constant([""]), 2).numpy() == [
        b"order 00000, 12 days"
    ]
    assert query_texts(tf.constant(["now"]), tf.constant([context]), 0).numpy().tolist() == [b"now"]


def test_the_open_request_is_the_turn_before_a_chain_of_questions_back():
    contexts = [
        "customer: hi\nassistant: hello\ncustomer: cancel it\nassistant: Which order (number)?",
        "customer: 退货\nassistant: 订单号是多少？\ncustomer: 12345\nassistant: What is it? [amount]",
        "customer: cancel it\nassistant: Done.",
        "customer: a\nassistant: Which order (number)?\ncustomer: b\nassistant: Done.",
        "",
    ]
    before, request, slot = tf.function(lambda texts: open_request(texts, ASKS))(tf.constant(contexts))
    assert [text.decode() for text in request.numpy()] == ["cancel it", "退货", "", "", ""]
    assert before.numpy()[0] == b"customer: hi\nassistant: hello\n"
    assert set(before.numpy()[1:]) == {b""}
    assert slot.numpy().tolist() == [0, 2, -1, -1, -1]


def test_without_questions_nothing_is_open():
    _, request, slot = open_request(tf.constant(["customer: a\nassistant: b"]), [[]])
    assert request.numpy().tolist() == [b""]
    assert slot.numpy().tolist() == [-1]
