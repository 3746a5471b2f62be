"""How do trained models, replies and documents become one assistant, and when may it answer by itself?"""

import csv
import dataclasses
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from apps.customer_service.documents import Passage
from apps.customer_service.formats import Pair
from apps.customer_service.task import KEPT, queries_of, read_pairs, replies_of_intents
from kerasllm import decisions, trained
from kerasllm.config import Run
from kerasllm.data import read_columns
from kerasllm.errors import DataError
from kerasllm.export.assistant import AssistantSignatures, Confidence, Ranker, mixed_logits
from kerasllm.export.signatures import ClassifierSignatures
from kerasllm.retrieval import ReplyIndex, pair_scorer
from kerasllm.text.slots import Slot, read_slots
from kerasllm.trained import Trained

# N pairs, K candidates, A replies

BATCH = 32  # questions answered together
MIXED = ("search", "rerank", "intent")  # log probabilities that rank the replies
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the re-ranker, tried on the validation part
INTENT_SHARES = (0.0, 0.5, 1.0)  # likewise
LEAST_WORDS = 1e-3  # BM25 above 0: at least one word in common
LOWEST_SHARE = 0.02  # of the right replies that the least cosine may cost


@dataclasses.dataclass(frozen=True)
class Assembled:
    """Everything behind an assistant, without the decision when it answers.

    Attributes:
      run: of the matching part.
      answers_of: for each intent the replies that were given to it; empty where only the very reply is right.
    """

    run: Run
    intent: Trained
    ranker: Ranker
    index: ReplyIndex
    documents: ReplyIndex | None
    sources: tuple[str, ...]
    slots: tuple[Slot, ...]
    answers_of: dict[str, set[str]]
    workdir: Path

    def signatures(self, confidence: Confidence) -> AssistantSignatures:
        """The functions that are served."""
        heads, run = self.intent.run.data.label_heads(), self.intent.run
        chosen = {name: self.intent.decision(name) for name in heads}
        intent = ClassifierSignatures(
            self.intent.model, self.intent.tokenizer, heads, run.export.sequence_length, chosen
        )
        turns = self.run.assistant.context_turns
        return AssistantSignatures(intent, self.ranker, self.slots, confidence, turns, self.documents, self.sources)

    def right_replies(self, pair: Pair) -> list[int]:
        """Places in the index of the replies that would be right."""
        right = self.answers_of.get(pair.intent) or {pair.reply}
        return [place for place, reply in enumerate(self.index.replies) if reply in right]


def assemble(workdir: Path, replies: Sequence[str] | None = None, passages: Sequence[Passage] = ()) -> Assembled:
    """Loads the models and builds the indexes; no training.

    Args:
      workdir: that the train program wrote.
      replies: the catalogue; None: every reply of the dialogues.
      passages: of documents.

    Raises:
      CheckpointError: a model is missing or damaged.
      DataError: there are no replies.
    """
    matching, intent = trained.load(workdir / "matching"), trained.load(workdir / "intent")
    settings, history = matching.run.assistant, read_pairs(workdir / KEPT, "train")
    catalogue = list(dict.fromkeys(read_replies(workdir / KEPT / "replies.tsv") if replies is None else replies))
    index = index_of(matching, catalogue, history)
    documents = None
    if passages:
        texts = [f"{passage.heading} {passage.text}".strip() for passage in passages]
        documents = ReplyIndex(
            matching,
            [passage.text for passage in passages],
            texts,
            range(len(texts)),
            fusion="weighted",
            dense_share=0.5,  # no past question speaks for a passage: its words count more
            same_language=settings.same_language,
        )
    known = [pair for part in ("train", "validation") for pair in read_pairs(workdir / KEPT, part) if pair.intent]
    answers_of = replies_of_intents(known)
    intents = _intents_of_replies(catalogue, answers_of, intent.run.data.labels)
    ranker = Ranker(index, None, matching.run.matching.candidates, intents)
    if (workdir / "reranking" / "run.yaml").exists():
        model = trained.load(workdir / "reranking")
        tracked = [*(variable.value for variable in model.model.weights), *model.tokenizer.assets]
        ranker = Ranker(index, pair_scorer(model), matching.run.matching.candidates, intents, tracked)
    return Assembled(
        matching.run,
        intent,
        ranker,
        index,
        documents,
        tuple(passage.source for passage in passages),
        read_slots(workdir / KEPT / "slots.yaml"),
        answers_of if settings.right_when == "same_intent" else {},
        workdir,
    )


def read_replies(path: Path) -> list[str]:
    """The column `reply` of a table.

    Raises:
      DataError: the file or column is missing, or a reply is empty.
    """
    replies = []
    for row, fields in read_columns(path, ["reply"]):
        if not fields["reply"].strip():
            raise DataError(f"{path}:{row}: the reply is empty. Remove the row or fill it in.")
        replies.append(fields["reply"])
    return replies


def fit(assembled: Assembled, pairs: Sequence[Pair]) -> Confidence:
    """Chooses when the assistant answers by itself, on held-out pairs; the precision is run.decisions.precision."""
    precision = assembled.run.decisions.precision
    asked = [pair for pair in pairs if assembled.right_replies(pair)]
    if not asked:
        return Confidence(answer_from=decisions.NEVER, precision=precision)
    scored, is_right = _scored(assembled, asked)
    found = is_right.any(axis=1)
    labels = is_right.argmax(axis=1)
    base = Confidence(
        search_temperature=decisions.fit_temperature(scored["search"][found], labels[found]),
        rerank_temperature=decisions.fit_temperature(scored["rerank"][found], labels[found]),
        precision=precision,
    )
    choices = [
        dataclasses.replace(base, rerank_share=share, intent_share=intent_share)
        for share in (SHARES if assembled.ranker.has_reranker else SHARES[:1])
        for intent_share in INTENT_SHARES
    ]
    best = max(choices, key=lambda choice: _share_right(_mixed(scored, choice), is_right))
    logits = _mixed(scored, best)
    temperature = decisions.fit_temperature(logits[found], labels[found])
    first = logits.argmax(axis=1)
    rows = np.arange(len(asked))
    agreement = np.minimum(np.exp(best.intent_share * scored["intent"]), 1.0)
    probabilities = (agreement * decisions.softmax(logits / temperature))[rows, first]
    right, similarity = is_right[rows, first], scored["similarity"][rows, first]
    answer_from = decisions.threshold_for_precision(probabilities, right, precision)
    lowest = decisions.threshold_for_rejection(similarity[right], LOWEST_SHARE) if right.any() else -1.0
    document_from, document_words_from = _document_thresholds(assembled, asked)
    return dataclasses.replace(
        best,
        temperature=temperature,
        answer_from=answer_from if math.isfinite(answer_from) else decisions.NEVER,
        similarity_from=lowest,
        document_from=document_from,
        document_words_from=document_words_from,
    )


def answer(signatures: AssistantSignatures, pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """What the assistant says to each question, as the server would: one dict for each pair."""
    strings = tf.TensorSpec([None], tf.string)
    reply = tf.function(signatures.reply, input_signature=[strings, strings], autograph=False)
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        outputs = reply(tf.constant([pair.question for pair in part]), tf.constant([pair.context for pair in part]))
        columns = {name: column.numpy() for name, column in outputs.items()}
        for row in range(len(part)):
            yield {name: _plain(column[row]) for name, column in columns.items()}


def ranks(assembled: Assembled, confidence: Confidence, pairs: Sequence[Pair]) -> np.ndarray:
    """[N] rank of the best right reply among all replies, from 1; infinity where the catalogue has none.

    The candidates come in the order that is served, all others after them in the order of the search.
    """
    ranked = tf.function(lambda texts, intents: assembled.ranker.ranked(texts, intents, confidence)["replies"])
    scores = tf.function(assembled.index.scores)
    found = []
    queries, intents = queries_of(pairs, assembled.run.assistant.context_turns), _intents(assembled, pairs)
    for start in range(0, len(pairs), BATCH):
        texts = tf.constant(queries[start : start + BATCH])
        for candidates, row, pair in zip(
            ranked(texts, intents[start : start + BATCH]).numpy().tolist(),
            scores(texts).numpy(),
            pairs[start : start + BATCH],
            strict=True,
        ):
            rest = [place for place in np.argsort(-row, kind="stable").tolist() if place not in set(candidates)]
            place_of = {reply: rank for rank, reply in enumerate([*candidates, *rest], 1)}
            found.append(min((place_of[place] for place in assembled.right_replies(pair)), default=math.inf))
    return np.array(found)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Rows as tab-separated text; line breaks and tabs inside become spaces."""
    lines = io.StringIO()
    writer = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([" ".join(str(row[column]).split()) for column in columns] for row in rows)
    return lines.getvalue()


def index_of(matching: trained.Trained, catalogue: Sequence[str], history: Sequence[Pair]) -> ReplyIndex:
    """The index of a catalogue by a dual encoder, whose run says how; `history` tells what each reply answered."""
    settings = matching.run.assistant
    entries, owners = entries_of(catalogue, history, settings.past_questions)
    return ReplyIndex(
        matching,
        catalogue,
        entries,
        owners,
        fusion=settings.fusion,
        dense_share=settings.dense_share,
        same_language=settings.same_language,
    )


def entries_of(catalogue: Sequence[str], history: Sequence[Pair], most: int) -> tuple[list[str], list[int]]:
    """What each reply is found by (its own text, the questions it answered most often), and which reply that is."""
    asked: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in history:
        asked[pair.reply][pair.question] += 1
    entries, owners = [], []
    for place, reply in enumerate(catalogue):
        questions = [question for question, _ in asked[reply].most_common(most)]
        entries += [reply, *questions]
        owners += [place] * (1 + len(questions))
    return entries, owners


def _scored(assembled: Assembled, pairs: Sequence[Pair]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores of the candidates [N, K] by name, and which of them are right [N, K]."""
    scored = tf.function(assembled.ranker.scored)
    queries, intents = queries_of(pairs, assembled.run.assistant.context_turns), _intents(assembled, pairs)
    parts = [
        scored(tf.constant(queries[start : start + BATCH]), intents[start : start + BATCH])
        for start in range(0, len(queries), BATCH)
    ]
    columns = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    is_right = [
        np.isin(row, assembled.right_replies(pair)) for row, pair in zip(columns["replies"], pairs, strict=True)
    ]
    return columns, np.array(is_right)


def _mixed(scored: dict[str, np.ndarray], confidence: Confidence) -> np.ndarray:
    return np.asarray(mixed_logits({name: tf.constant(scored[name]) for name in MIXED}, confidence))


def _intents(assembled: Assembled, pairs: Sequence[Pair]) -> np.ndarray:
    """Calibrated intent probabilities [N, C] of the questions."""
    found = trained.classify(assembled.intent, [pair.question for pair in pairs])
    return next(iter(found.values())).astype(np.float32)


def _intents_of_replies(catalogue: Sequence[str], answers_of: dict[str, set[str]], labels: Sequence[str]) -> np.ndarray:
    """[A, C] float32: 1 where the reply was given to the intent; a row of 1 where nothing is known of the reply."""
    table = np.array([[reply in answers_of.get(label, ()) for label in labels] for reply in catalogue], np.float32)
    table[~table.any(axis=1)] = 1.0
    return table


def _share_right(logits: np.ndarray, is_right: np.ndarray) -> float:
    return float(is_right[np.arange(len(logits)), logits.argmax(axis=1)].mean())


def _document_thresholds(assembled: Assembled, pairs: Sequence[Pair]) -> tuple[float, float]:
    """Cosine and BM25 of a passage that few of the ordinary questions reach: a document has to fit better than that."""
    documents = assembled.documents
    if documents is None:
        return -1.0, 0.0
    search = tf.function(lambda texts: documents.search(texts, 1))
    queries = queries_of(pairs, assembled.run.assistant.context_turns)
    found = [search(tf.constant(queries[start : start + BATCH])) for start in range(0, len(queries), BATCH)]
    similarity, lexical = (
        np.concatenate([part[name].numpy()[:, 0] for part in found]) for name in ("similarity", "lexical")
    )
    share = 1 - assembled.run.decisions.rejected_share
    return float(np.quantile(similarity, share)), max(float(np.quantile(lexical, share)), LEAST_WORDS)


def _plain(value: Any) -> Any:
    """A NumPy value as Python's own."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
