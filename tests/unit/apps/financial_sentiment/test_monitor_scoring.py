"""How are texts scored? One that is refused does not take its batch along; an absent server is asked again."""

import threading

import numpy as np
import pytest

from apps.financial_sentiment.monitoring import scoring
from apps.financial_sentiment.monitoring.scoring import Score, Scorer, Stopped
from kerasllm.errors import ConfigError, InvalidRequest, ServerUnavailable


class Client:
    """A model of two classes that calls texts with "loss" negative, refuses "bad" ones, and fails `failures` times."""

    model_name, address = "sentiment", "nowhere"

    def __init__(self, failures=0, outputs=("label", "probabilities")):
        self.calls, self.failures, self.outputs = [], failures, outputs

    def metadata(self):
        default = {"inputs": {"text": ""}, "outputs": dict.fromkeys(self.outputs, "")}
        return {"serving_default": default, "labels": {"inputs": {"text": ""}, "outputs": {"labels": ""}}}

    def predict(self, inputs, signature="serving_default"):
        texts = inputs["text"]
        self.calls.append(texts)
        if self.failures:
            self.failures -= 1
            raise ServerUnavailable("gone.")
        if any("bad" in text for text in texts):
            raise InvalidRequest("a bad text")
        if signature == "labels":
            return {"labels": np.array([[b"neutral", b"negative"]] * len(texts), object)}
        is_negative = ["loss" in text for text in texts]
        labels = np.array([b"negative" if one else b"neutral" for one in is_negative], object)
        return {
            "label": labels,
            "probabilities": np.array([[0.25, 0.75] if one else [0.875, 0.125] for one in is_negative]),
        }


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(scoring, "FIRST_WAIT_S", 0.001)


def scorer(client, **options):
    return Scorer(client, "negative", threading.Event(), **options)


def test_the_probability_of_negative_is_given_for_every_label():
    assert scorer(Client()).score(["a loss", "news"]) == [Score(0.75, True, None), Score(0.125, False, None)]


def test_a_label_that_the_model_does_not_know_is_refused_with_those_that_it_knows():
    with pytest.raises(ConfigError, match="--negative_label bad: sentiment knows the labels neutral, negative"):
        Scorer(Client(), "bad", threading.Event()).score(["news"])


def test_a_refused_text_is_found_by_halves_and_the_others_are_scored():
    client = Client()
    found = scorer(client).score([f"text {number}" for number in range(5)] + ["bad"] + ["loss"] * 2)
    assert [type(one) for one in found] == [Score] * 5 + [str] + [Score] * 2
    assert found[5] == "refused by the server: a bad text"
    assert found[6] == Score(0.75, True, None)
    # 8 texts; 4 good, 4 with the bad one; 2 with it (1 good, 1 bad), 2 good; before them the names
    assert [len(call) for call in client.calls[1:]] == [8, 4, 4, 2, 1, 1, 2]


def test_a_server_that_is_away_is_asked_until_it_answers():
    retries = []
    client = Client(failures=3)
    assert scorer(client, on_retry=lambda: retries.append(1)).score(["news"]) == [Score(0.125, False, None)]
    assert len(retries) == 3


def test_a_stop_ends_the_waiting():
    stop = threading.Event()
    with pytest.raises(Stopped):
        Scorer(Client(failures=10**9), "negative", stop, stop.set).score(["news"])


def test_a_model_without_labels_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"--model sentiment: not a sentiment classifier.*answers \['y'\]"):
        scorer(Client(outputs=("y",))).score(["news"])
