"""How does the monitor ask the model server? In batches, and for as long as it takes: nothing is lost meanwhile."""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from kerasllm.errors import ConfigError, DeadlineExceeded, InvalidRequest, ServerUnavailable
from serving.clients import PredictClient

LOG = logging.getLogger("kerasllm.monitor")
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 15.0
_Answer = TypeVar("_Answer")


class Stopped(Exception):  # noqa: N818  not an error
    """The monitor was asked to end while it waited for the server."""


@dataclass(frozen=True, slots=True)
class Score:
    """What the model says of a text: how probable it is negative, whether that is its label, and its topic."""

    negative: float
    is_negative: bool
    topic: str | None


class Scorer:
    """Labels texts through a server.

    Args:
      client: of the model.
      negative_label: the label that is counted.
      stop: set from outside to end the waiting.
      on_retry: called at each failed attempt.

    Raises (each call):
      Stopped: `stop` was set.
      ConfigError: the model is no sentiment classifier, or it does not know the negative label.
      ModelNotFound: the server does not have the model.
    """

    def __init__(
        self,
        client: PredictClient,
        negative_label: str,
        stop: threading.Event,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._client, self._negative = client, negative_label.encode()
        self._stop, self._on_retry = stop, on_retry
        self._prefix: str | None = None
        self._column = 0  # of the negative label among the probabilities; known with the prefix

    def score(self, texts: Sequence[str]) -> list[Score | str]:
        """A score for each text; the server's reason for a text that it refuses."""
        if not texts:
            return []
        if self._prefix is None:
            prefix = self._find_head()
            self._column = self._find_column(prefix)
            self._prefix = prefix
        try:
            return list(self._scores(self._patiently(lambda: self._client.predict({"text": list(texts)}))))
        except InvalidRequest as error:
            if len(texts) == 1:
                return [f"refused by the server: {error}"]
            half = len(texts) // 2
            return self.score(texts[:half]) + self.score(texts[half:])

    def _find_head(self) -> str:
        """Prefix of the sentiment head's outputs: none for a model with one head."""
        signatures = self._patiently(self._client.metadata)
        signature = signatures.get("serving_default", {"inputs": {}, "outputs": {}})
        for prefix in ("", "sentiment_"):
            needed = {f"{prefix}label", f"{prefix}probabilities"}
            if "text" in signature["inputs"] and needed <= signature["outputs"].keys() and "labels" in signatures:
                return prefix
        raise ConfigError(
            f"--model {self._client.model_name}: not a sentiment classifier. It takes {sorted(signature['inputs'])} and"
            f" answers {sorted(signature['outputs'])}; needed are text, and label and probabilities (or sentiment_...),"
            " and a signature `labels`. A model of an earlier version has to be exported anew."
        )

    def _find_column(self, prefix: str) -> int:
        names = self._patiently(lambda: self._client.predict({"text": [""]}, "labels"))[f"{prefix}labels"][0].tolist()
        if self._negative not in names:
            known = ", ".join(name.decode("utf-8", "replace") for name in names)
            raise ConfigError(
                f"--negative_label {self._negative.decode()}: {self._client.model_name} knows the labels {known}."
            )
        return int(names.index(self._negative))

    def _scores(self, outputs: dict[str, np.ndarray]) -> Any:
        labels, probabilities = outputs[f"{self._prefix}label"], outputs[f"{self._prefix}probabilities"]
        topics = outputs.get("topic_label")
        for row, label in enumerate(labels):
            topic = None if topics is None else topics[row].decode("utf-8", "replace")
            yield Score(float(probabilities[row, self._column]), bool(label == self._negative), topic)

    def _patiently(self, call: Callable[[], _Answer]) -> _Answer:
        """Tries until the server answers, waiting longer each time, up to 15 s."""
        wait_s, has_failed = FIRST_WAIT_S, False
        while not self._stop.is_set():
            try:
                answer = call()
            except (ServerUnavailable, DeadlineExceeded) as error:
                if not has_failed:
                    LOG.warning("%s Trying again until it answers; nothing is lost.", error)
                has_failed = True
                self._on_retry()
                self._stop.wait(wait_s * random.uniform(0.5, 1.0))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                if has_failed:
                    LOG.warning("%s answers again.", self._client.address)
                return answer
        raise Stopped
