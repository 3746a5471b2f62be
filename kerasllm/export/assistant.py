"""What can be asked of a served assistant? A reply with its reasons, an intent, an embedding: all from strings."""

# B questions, A replies, K candidates, S slots, C intents, D width of an embedding

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from kerasllm.export.signatures import ClassifierSignatures
from kerasllm.text.named_values import filled_or_named, named_values
from kerasllm.text.slots import Slot, Templates, has_chinese
from kerasllm.text.turns import open_request, query_texts

ANSWER, ASK_SLOT, DOCUMENT, HAND_OVER = "answer", "ask_slot", "document", "hand_over"  # what an assistant does
DRAFT = "draft: a person fills the blanks"  # reason of a hand-over with a sure reply
HAND_OVERS = {
    "en": "I am not sure about this one. A colleague will take over from here.",
    "zh": "这个问题我不太确定，现在为您转接人工客服。",
}
LEAST_AGREEMENT = 1e-3  # an intent that was never seen with a reply makes it unlikely, not impossible
SEARCH_SCALE = 20.0  # brings cosines and shares to the range of logits


class Index(Protocol):
    """What finds the entries of a catalogue: kerasllm.retrieval.ReplyIndex."""

    replies: tuple[str, ...]
    entries: tuple[str, ...]

    def search(self, texts: tf.Tensor, k: int) -> dict[str, tf.Tensor]:
        """The best replies of each query, [B, K] each."""

    def embed(self, texts: tf.Tensor) -> tf.Tensor:
        """Embeddings [B, D]."""


@dataclasses.dataclass(frozen=True)
class Confidence:
    """From which scores on an assistant answers by itself; fitted on held-out dialogues.

    Attributes:
      search_temperature: of the search scores, rerank_temperature: of the re-ranker's; both make log probabilities.
      rerank_share: of the re-ranker's log probabilities in their mixture.
      intent_share: exponent of the probability that the customer has one of the intents a reply was given to.
      temperature: of the mixture.
      answer_from: least probability of the best candidate; above 1: it never answers.
      similarity_from: least cosine of the best candidate.
      document_from: least cosine of a passage of the documents; document_words_from: or least BM25.
      precision: that was asked for.
    """

    search_temperature: float = 1.0
    rerank_temperature: float = 1.0
    rerank_share: float = 0.0
    intent_share: float = 0.0
    temperature: float = 1.0
    answer_from: float = 0.0
    similarity_from: float = -1.0
    document_from: float = -1.0
    document_words_from: float = 0.0
    precision: float = 0.0


class Ranker(tf.Module):
    """Orders the replies for a query: exact search over the index, then the re-ranker over the best of it.

    Args:
      index: of the replies.
      rerank: queries [N] and replies [N] -> scores [N], or None.
      num_candidates: K at most.
      intents: [A, C] float32, 1 where a reply was given to an intent before; all 1 where nothing is known.
      tracked: what a SavedModel has to store for `rerank`.
    """

    def __init__(
        self,
        index: Index,
        rerank: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None,
        num_candidates: int,
        intents: np.ndarray,
        tracked: Sequence[Any] = (),
    ) -> None:
        super().__init__(name="ranker")
        self.index = index
        self.has_reranker = rerank is not None
        self._tracked = list(tracked)

        # The re-ranker's model is held by the closure alone: as an attribute tf.Module would track it once more.
        def scored(queries: tf.Tensor, intent_probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
            found = index.search(queries, num_candidates)
            search = SEARCH_SCALE * found["scores"]
            by_reply = tf.matmul(intent_probabilities, tf.constant(intents, tf.float32), transpose_b=True)
            found["intent"] = tf.math.log(tf.gather(by_reply, found["replies"], batch_dims=1) + LEAST_AGREEMENT)
            if rerank is None:
                return {**found, "search": search, "rerank": tf.zeros_like(search)}
            width = tf.shape(search)[1]
            texts = tf.gather(tf.constant(index.replies), tf.reshape(found["replies"], [-1]))
            scores = tf.reshape(rerank(tf.repeat(queries, width), texts), tf.shape(search))
            return {**found, "search": search, "rerank": scores}

        self.scored = scored

    def ranked(
        self, queries: tf.Tensor, intent_probabilities: tf.Tensor, confidence: Confidence
    ) -> dict[str, tf.Tensor]:
        """Candidates, best first: replies, entries [B, K] int32; probabilities and similarity [B, K] float32."""
        found = self.scored(queries, intent_probabilities)
        logits = mixed_logits(found, confidence)
        agreement = tf.minimum(tf.exp(confidence.intent_share * found["intent"]), 1.0)  # no candidate may fit at all
        probabilities = agreement * tf.nn.softmax(logits / confidence.temperature)
        order = tf.argsort(probabilities, axis=1, direction="DESCENDING", stable=True)
        kept = {name: found[name] for name in ("replies", "entries", "similarity")}
        columns = {**kept, "probabilities": probabilities}
        return {name: tf.gather(column, order, batch_dims=1) for name, column in columns.items()}


def mixed_logits(found: Mapping[str, tf.Tensor], confidence: Confidence) -> tf.Tensor:
    """Log probabilities of search, re-ranker and intent, mixed: [B, K] each -> [B, K] float32."""
    by_search = tf.nn.log_softmax(found["search"] / confidence.search_temperature)
    by_rerank = tf.nn.log_softmax(found["rerank"] / confidence.rerank_temperature)
    mixed = (1 - confidence.rerank_share) * by_search + confidence.rerank_share * by_rerank
    return mixed + confidence.intent_share * found["intent"]


class AssistantSignatures(tf.Module):
    """The functions of a served assistant; everything happens in the graph.

    Args:
      intent: of the intent classifier with one head; its tf.Module tracks the weights.
      ranker: of the replies.
      slots: that replies speak of.
      confidence: when it answers by itself.
      context_turns: earlier turns that a query holds.
      documents: index of passages, or None.
      sources: of each passage.
    """

    def __init__(
        self,
        intent: ClassifierSignatures,
        ranker: Ranker,
        slots: Sequence[Slot],
        confidence: Confidence,
        context_turns: int,
        documents: Index | None = None,
        sources: Sequence[str] = (),
    ) -> None:
        super().__init__(name="assistant")
        self._intent, self._ranker, self._documents = intent, ranker, documents
        self._confidence, self._context_turns = confidence, context_turns
        self._sources = tuple(sources)
        self._slots = tuple(slots)  # a tuple of dataclasses is nothing that a tf.Module tracks
        self._templates = Templates(ranker.index.replies, slots)

    def reply(self, question: tf.Tensor, context: tf.Tensor) -> dict[str, tf.Tensor]:
        """Questions [B] and their contexts [B] string -> what to say and why.

        Returns, [B] each: reply; action (answer, ask_slot, document, hand_over); reason; matched_reply (the template),
        matched_question (the entry that found it), score, similarity; missing_slot; intent, intent_score,
        out_of_scope; source (of a passage). And [B, K]: candidates, candidate_scores.
        """
        return self.decide(question, self.look_up(question, context))

    def look_up(self, question: tf.Tensor, context: tf.Tensor) -> dict[str, Any]:
        """What is known before anything is said.

        Returns: query [B] string; intent, see `intent`; found, see Ranker.ranked; values [B, S] string that the
          customer named.
        """
        before, request, asked = open_request(context, [tuple(slot.ask.values()) for slot in self._slots])
        is_open = asked >= 0
        wish = tf.where(is_open, request, question)
        query = query_texts(wish, tf.where(is_open, before, context), self._context_turns)
        intent = self.intent(wish)
        found = self._ranker.ranked(query, intent["probabilities"], self._confidence)
        values = named_values(question, context, self._slots, asked)
        return {"query": query, "intent": intent, "found": found, "values": values}

    def decide(self, question: tf.Tensor, looked_up: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """What to say and why, see `reply`."""
        query, intent, found = (looked_up[name] for name in ("query", "intent", "found"))
        best = found["replies"][:, 0]
        filled = self._templates.fill(best, looked_up["values"])
        similarity, score = found["similarity"][:, 0], found["probabilities"][:, 0]
        in_scope = ~intent["out_of_scope"]
        is_sure = in_scope & (score >= self._confidence.answer_from) & (similarity >= self._confidence.similarity_from)
        is_missing = filled["missing"] >= 0
        cannot_ask = is_missing & tf.equal(filled["ask"], "")
        passage, source, is_near = self._passage(query)
        hand_over = tf.where(has_chinese(question), HAND_OVERS["zh"], HAND_OVERS["en"])
        cases = [  # the first that holds
            (
                is_sure & (filled["has_blank"] | cannot_ask),
                HAND_OVER,
                filled["text"],
                DRAFT,
            ),
            (is_sure & is_missing, ASK_SLOT, filled["ask"], "a value that the reply needs is missing"),
            (is_sure, ANSWER, filled["text"], "a known reply fits"),
            (is_near, DOCUMENT, passage, "no known reply, but a passage of the documents fits"),
            (intent["out_of_scope"], HAND_OVER, hand_over, "the question is out of scope"),
        ]
        action, reply = tf.fill(tf.shape(question), HAND_OVER), hand_over
        reason = tf.fill(tf.shape(question), "no reply is sure enough")
        for holds, what, text, why in reversed(cases):
            action, reply = tf.where(holds, what, action), tf.where(holds, text, reply)
            reason = tf.where(holds, why, reason)
        names = tf.constant([*(slot.name for slot in self._slots), ""])
        is_asked = tf.equal(action, ASK_SLOT)
        return {
            "reply": reply,
            "action": action,
            "reason": reason,
            "matched_reply": tf.gather(tf.constant(self._ranker.index.replies), best),
            "matched_question": tf.gather(tf.constant(self._ranker.index.entries), found["entries"][:, 0]),
            "score": score,
            "similarity": similarity,
            "missing_slot": tf.gather(names, tf.where(is_asked, filled["missing"], len(self._slots))),
            "intent": intent["label"],
            "intent_score": tf.reduce_max(intent["probabilities"], axis=1),
            "out_of_scope": intent["out_of_scope"],
            "source": tf.where(tf.equal(action, DOCUMENT), source, ""),
            "candidates": tf.gather(tf.constant(self._ranker.index.replies), found["replies"]),
            "candidate_scores": found["probabilities"],
        }

    def intent(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Texts [B] string -> label [B], probabilities [B, C], in_set [B, C], abstain [B] and out_of_scope [B] bool."""
        answers = self._intent.predict(text)
        return {"out_of_scope": tf.zeros_like(answers["abstain"]), **answers}

    def embed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Texts [B] string -> embedding [B, D] float32 of length 1."""
        return {"embedding": self._ranker.index.embed(text)}

    def token_ids(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Texts [B] string -> token_ids [B, T] int32 as the intent classifier sees them."""
        return self._intent.token_ids(text)

    def signatures(self) -> dict[str, Any]:
        """The traced functions by signature name."""
        strings = tf.TensorSpec([None], tf.string)
        reply = tf.function(self.reply, autograph=False).get_concrete_function(question=strings, context=strings)
        return {
            "serving_default": reply,
            "reply": reply,
            "intent": tf.function(self.intent, autograph=False).get_concrete_function(text=strings),
            "embed": tf.function(self.embed, autograph=False).get_concrete_function(text=strings),
            "token_ids": tf.function(self.token_ids, autograph=False).get_concrete_function(text=strings),
        }

    def written(self, replies: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Replies [B, K] int32 with the values [B, S] of their slots: [B, K] string; `{slot}` where one is missing."""
        return filled_or_named(self._templates, self._slots, replies, values)

    def _passage(self, query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The nearest passage, its source, and whether it is near enough."""
        if self._documents is None:
            nothing = tf.zeros_like(query)
            return nothing, nothing, tf.zeros_like(query, tf.bool)
        found = self._documents.search(query, 1)
        place = found["replies"][:, 0]
        is_near = found["similarity"][:, 0] >= self._confidence.document_from
        is_near |= found["lexical"][:, 0] >= self._confidence.document_words_from
        return (
            tf.gather(tf.constant(self._documents.replies), place),
            tf.gather(tf.constant(self._sources), place),
            is_near,
        )
