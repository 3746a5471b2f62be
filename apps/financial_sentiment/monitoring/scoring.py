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
# Answers do not name the columns of their probabilities. Of these texts some model calls one negative; its highest
# probability shows the column.
PLAINLY_NEGATIVE = (
    "Operating profit fell sharply and the company reported a heavy loss.",
    "Shares plunge after a profit warning; the firm will cut 500 jobs.",
    "negative",
    "公司净利润大幅下降，出现严重亏损。",
    "loss",
)
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
      ConfigError: the model is no sentiment classifier.
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
        self._column: int | None = None  # of negative; None: told by the label alone

    def score(self, texts: Sequence[str]) -> list[Score | str]:
        """A score for each text; the server's reason for a text that it refuses."""
        if not texts:
            return []
        if self._prefix is None:
            self._prefix = self._find_head()
            self._column = self._find_column()
        try:
            return list(self._scores(self._patiently(lambda: self._client.predict({"text": list(texts)}))))
        except InvalidRequest as error:
            if len(texts) == 1:
                return [f"refused by the server: {error}"]
            half = len(texts) // 2
            return self.score(texts[:half]) + self.score(texts[half:])

    def _find_head(self) -> str:
        """Prefix of the sentiment head's outputs: none for a model with one head."""
        signature = self._patiently(self._client.metadata).get("serving_default", {"inputs": {}, "outputs": {}})
        for prefix in ("", "sentiment_"):
            if (
                "text" in signature["inputs"]
                and {f"{prefix}label", f"{prefix}probabilities"} <= signature["outputs"].keys()
            ):
                return prefix
        raise ConfigError(
            f"--model {self._client.model_name}: not a sentiment classifier. It takes {sorted(signature['inputs'])} and"
            f" answers {sorted(signature['outputs'])}; needed are text, and label and probabilities (or sentiment_...)."
        )

    def _find_column(self) -> int | None:
        outputs = self._patiently(lambda: self._client.predict({"text": list(PLAINLY_NEGATIVE)}))
        rows = np.flatnonzero(outputs[f"{self._prefix}label"] == self._negative)
        if len(rows):
            return int(outputs[f"{self._prefix}probabilities"][rows[0]].argmax())
        LOG.warning("%s calls no plainly negative text %s.", self._client.model_name, self._negative.decode())
        return None

    def _scores(self, outputs: dict[str, np.ndarray]) -> Any:
        labels, probabilities = outputs[f"{self._prefix}label"], outputs[f"{self._prefix}probabilities"]
        topics = outputs.get("topic_label")
        for row, label in enumerate(labels):
            is_negative = bool(label == self._negative)
            column = self._column if self._column is not None else int(probabilities[row].argmax())
            negative = float(probabilities[row, column]) if is_negative or self._column is not None else 0.0
            yield Score(negative, is_negative, None if topics is None else topics[row].decode("utf-8", "replace"))

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
