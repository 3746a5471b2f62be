"""Which tokens stand in which row? Plans of an epoch: pure functions of the corpus index, the seed and the epoch.

Nothing here reads a token. A plan is computed from lengths alone, so that resuming is slicing.
"""

# S sentences (or pieces of them), C chunks = rows, L tokens of all documents

import dataclasses

import numpy as np

from kerasllm.data.chunks import Chunk, Draws, gather, gather_in_order
from kerasllm.data.corpus import Split

PAIR_CANDIDATES = 8  # random places looked at for a B; the one whose length fits best is taken


@dataclasses.dataclass(frozen=True)
class PairPlan:
    """Rows of BERT pretraining, in reading order of the epoch; addresses and lengths are in tokens. All arrays are [C].

    A row is `[CLS] a [SEP] b [SEP]`, or `[CLS] a [SEP]` where length_b is 0.
    """

    start_a: np.ndarray
    length_a: np.ndarray
    start_b: np.ndarray
    length_b: np.ndarray
    is_wrong: np.ndarray  # bool: b does not follow a; it comes from another document, or it is what stands before a
    has_pair: np.ndarray  # bool: the row has two parts, of which the model is asked

    def __len__(self) -> int:
        return len(self.start_a)

    def __getitem__(self, rows: np.ndarray) -> "PairPlan":
        return PairPlan(**{name: array[rows] for name, array in vars(self).items()})


@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """Rows of GPT pretraining: documents in the order of the epoch, each `[bos] tokens [eos]`, cut into equal rows.

    Attributes:
      documents: [D] the order.
      starts: [D + 1] stream position at which each document of that order begins.
      rows: [C] the order of the rows; row r covers stream positions r * length to (r + 1) * length, and one more label.
      length: tokens of a row.
    """

    documents: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.rows)


def plan_pairs(
    split: Split, seed: int, epoch: int, length: int, pairs: str | None = "next_sentence", cut: bool = False
) -> PairPlan:
    """Plans the rows of one epoch for BERT.

    The sentences of a document are gathered while they fit into a row. A chunk of two or more is cut at a random
    sentence border into A and B. Of these chunks every second one (of each two, a random one) gets a B from a random
    place of another document of the same source, and its own rest goes back to be the beginning of the next chunk, as
    in BERT's data script. Lengths do not tell the label: of eight random places that one is taken whose whole sentences
    come nearest to the length of the B that it replaces. No pair is made of one sentence alone, or in a source of a
    single document, where "random" could not be another document: such rows are `[CLS] sentences [SEP]` without a pair.

    Sentences too long for a row are cut into equal pieces, so that no token is lost.

    Sentence order (Lan et al. 2020, section 3.1): every second chunk has its parts in the wrong order; nothing is taken
    from other documents, so that a source of one document makes pairs too. Pairs are always of whole sentences, as the
    ends of cut ones would tell the order: with `cut` what is left of their rows is filled with text without a pair.

    Cut, for next sentences or without pairs: a chunk goes on to the end of its row and cuts the last sentence there,
    the next one begins with the rest; only the last chunk of a document is shorter. A random B is cut as the one that
    it replaces: where the chunk ends inside of its document, B has exactly the length that is left; else it ends with
    a sentence.

    Args:
      split: the documents.
      seed: of the run.
      epoch: counted from 0.
      length: tokens of a row, special ones included.
      pairs: next_sentence, sentence_order, or None: rows of A alone.
      cut: rows are filled to the last token.
    """
    random = np.random.default_rng([seed, epoch, 0])
    room = length - (3 if pairs else 2)
    cuts_chunks = cut and pairs != "sentence_order"
    starts, documents = (split.sentence_starts, split.document_sentences) if cuts_chunks else _pieces(split, room)
    may_pair = _may_pair(split) if pairs == "next_sentence" else np.full(split.num_documents, pairs is not None)
    chunks = _chunks(starts, documents, may_pair, room, random, pairs, cut)
    if pairs == "sentence_order":
        chunks = _swapped(chunks)
    elif pairs:
        chunks = _with_random_b(chunks, starts, documents, split, room, random, cut)
    return chunks[random.permutation(len(chunks))]


def plan_stream(split: Split, seed: int, epoch: int, length: int) -> StreamPlan:
    """Plans the rows of one epoch for GPT; the tokens after the last full row are left out (other ones each epoch)."""
    random = np.random.default_rng([seed, epoch, 1])
    documents = random.permutation(split.num_documents)
    lengths = np.diff(split.document_starts)[documents] + 2
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    num_rows = int(starts[-1] - 1) // length
    return StreamPlan(documents, starts, random.permutation(num_rows), length)


def _pieces(split: Split, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences cut to at most `room` tokens: start addresses [S + 1], and first piece of each document [D + 1]."""
    lengths = np.diff(split.sentence_starts)
    parts = -(-lengths // room)
    if lengths.size == 0 or parts.max() <= 1:
        return split.sentence_starts, split.document_sentences
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(parts)])
    sentence = np.repeat(np.arange(len(lengths)), parts)
    ordinal = np.arange(first[-1]) - first[sentence]
    starts = split.sentence_starts[sentence] + ordinal * lengths[sentence] // parts[sentence]
    return np.append(starts, split.sentence_starts[-1]), first[split.document_sentences]


def _may_pair(split: Split) -> np.ndarray:
    """[D] bool: is there another document of the same source?"""
    _, index, counts = np.unique(split.source_ids, return_inverse=True, return_counts=True)
    return counts[index] > 1


def _chunks(
    starts: np.ndarray,
    documents: np.ndarray,
    may_pair: np.ndarray,
    room: int,
    random: np.random.Generator,
    pairs: str | None,
    cut: bool,
) -> PairPlan:
    """All documents' chunks; wrong pairs are still to be made, a random B shall have the `length_b` found here."""
    addresses, borders, draws = starts.tolist(), documents.tolist(), Draws(random)
    gather_one = gather_in_order if pairs == "sentence_order" else gather
    rows: list[Chunk] = []
    for document, pairs_allowed in enumerate(may_pair.tolist()):
        sentences = addresses[borders[document] : borders[document + 1] + 1]
        rows += gather_one(sentences, pairs_allowed, room, draws, cut)
    table = np.array(rows, np.int64).reshape(-1, 5)
    start_a, length_a, length_b = table[:, 0], table[:, 1], table[:, 2]
    return PairPlan(start_a, length_a, start_a + length_a, length_b, table[:, 3] > 0, table[:, 4] > 0)


def _swapped(plan: PairPlan) -> PairPlan:
    """The wrong rows get their parts in the other order."""
    a, b = (plan.start_a, plan.length_a), (plan.start_b, plan.length_b)
    (start_a, length_a), (start_b, length_b) = (
        [np.where(plan.is_wrong, other, own) for own, other in zip(part, swapped, strict=True)]
        for part, swapped in ((a, b), (b, a))
    )
    return dataclasses.replace(plan, start_a=start_a, length_a=length_a, start_b=start_b, length_b=length_b)


def _with_random_b(
    plan: PairPlan,
    starts: np.ndarray,
    documents: np.ndarray,
    split: Split,
    room: int,
    random: np.random.Generator,
    cut: bool,
) -> PairPlan:
    """Gives the rows that want one a B from another document of their source."""
    rows = np.flatnonzero(plan.is_wrong)
    if not len(rows):
        return plan
    own = np.searchsorted(split.document_starts, plan.start_a[rows], side="right") - 1
    source = split.source_ids[own]
    source_first = documents[np.searchsorted(split.source_ids, source, side="left")]
    source_stop = documents[np.searchsorted(split.source_ids, source, side="right")]
    own_first, own_stop = documents[own], documents[own + 1]
    others = (source_stop - source_first) - (own_stop - own_first)
    place = random.random((PAIR_CANDIDATES, len(rows)))
    first = source_first + np.minimum((place * others).astype(np.int64), others - 1)
    first = np.where(first >= own_first, first + own_stop - own_first, first)  # [candidates, rows]
    stop = documents[np.searchsorted(documents, first, side="right")]
    wanted, most = plan.length_b[rows], room - plan.length_a[rows]
    fitting = np.searchsorted(starts, starts[first] + wanted)  # the first border at or after the wanted length
    longer = np.clip(fitting, first + 1, stop)
    shorter = np.clip(fitting - 1, first + 1, stop)
    whole = np.concatenate([starts[longer], starts[shorter]]) - np.tile(starts[first], (2, 1))
    if cut:
        is_inside = (plan.start_b + plan.length_b)[rows] < split.document_starts[own + 1]
        whole = np.where(is_inside, np.tile(np.minimum(starts[stop] - starts[first], wanted), (2, 1)), whole)
    lengths = np.minimum(whole, most)  # a first sentence that does not fit loses its end: the last resort
    best = (np.abs(lengths - wanted) + room * (whole > most)).argmin(axis=0)
    columns = np.arange(len(rows))
    start_b, length_b = plan.start_b.copy(), plan.length_b.copy()
    start_b[rows] = starts[first][best % PAIR_CANDIDATES, columns]
    length_b[rows] = lengths[best, columns]
    return dataclasses.replace(plan, start_b=start_b, length_b=length_b)
