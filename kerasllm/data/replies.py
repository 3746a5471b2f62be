"""How do dialogues become batches of which only the replies are learned? Sequences of exchanges, packed into rows."""

# C sequences, N tokens of all of them, B rows, T tokens of a row

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.data.dialogues import Dialogue
from kerasllm.data.packing import deal_to_rows
from kerasllm.errors import DataError
from kerasllm.text import Tokenizer
from kerasllm.text.chat import Role, reply_prompt, write_messages
from kerasllm.text.turns import ASSISTANT

MOST_IN_A_ROW = 64  # sequences
CONTEXT_SHARE = 0.5  # of a row, at most: earlier exchanges that a sequence begins with when a dialogue has several
_NAMES = ("token_ids", "sequence_ids", "position_ids", "labels", "label_weights")


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What stands before a reply since the last one, and the reply with the suffix of its role, as token ids."""

    prompt: np.ndarray
    reply: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt) + len(self.reply)


@dataclasses.dataclass(frozen=True)
class LearnedReplies:
    """Dialogues, or pieces of them, as sequences `[bos] prompt reply prompt reply ...`, one behind the other.

    Attributes:
      token_ids: [N] int32.
      labels: [N] int32, the next token; behind a reply it is eos, although the dialogue goes on.
      weights: [N] float32, 1 where the label belongs to a reply that is learned here, or ends it.
      starts: [C + 1] where each sequence begins; the last is N.
      pad: token id of padding.
    """

    token_ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    pad: int

    def __len__(self) -> int:
        return len(self.starts) - 1


def learned_replies(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, run: Run) -> LearnedReplies:
    """Writes dialogues by run.data.chat and marks what is learned.

    A prompt and its reply are tokenized apart, as they are when a served model is asked. A dialogue that is longer than
    run.train.sequence_length becomes several sequences; each after the first begins with earlier exchanges, which are
    not learned again. A prompt too long for a row loses its beginning, a reply too long its end. What the customer says
    after the last reply is left out.

    Raises:
      DataError: there is no reply.
    """
    length, special = run.train.sequence_length, tokenizer.special
    written = []
    for system, exchanges in _tokenized(dialogues, tokenizer, run):
        written += [
            _write_sequence(special.bos, special.eos, length, system, *piece)
            for piece in _pieces(system, exchanges, length)
        ]
    if not written:
        raise DataError("The dialogues have no turn of the company. Give dialogues of two sides.")
    return _joined(written, special.pad)


def replies_after(
    prompts: Sequence[np.ndarray], replies: Sequence[str], tokenizer: Tokenizer, run: Run
) -> LearnedReplies:
    """Sequences of one reply each, behind prompts that are written already; the prompts are not learned.

    Args:
      prompts: token ids that end with the beginning of the assistant's turn, bos not among them.
      replies: C texts; one that is too long for run.train.sequence_length loses its end.
      tokenizer: that the prompts are of.
      run: data.chat says what stands behind a reply.

    Raises:
      DataError: there is no reply.
    """
    if not prompts:
        raise DataError("There is no reply to learn. Give questions with replies.")
    suffix, special = run.data.chat.roles.assistant.suffix, tokenizer.special
    ids = np.split(*_values_and_cuts(tokenizer, [f"{reply}{suffix}" for reply in replies]))
    nothing = np.zeros(0, np.int32)
    written = [
        _write_sequence(special.bos, special.eos, run.train.sequence_length, nothing, [Exchange(*pair)], 0)
        for pair in zip(prompts, ids, strict=True)
    ]
    return _joined(written, special.pad)


def _joined(written: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], pad: int) -> LearnedReplies:
    token_ids, labels, weights = (np.concatenate(parts) for parts in zip(*written, strict=True))
    starts = np.cumsum([0, *(len(ids) for ids, _, _ in written)])
    return LearnedReplies(token_ids, labels, weights, starts, pad)


def reply_batches(replies: LearnedReplies, run: Run, *, training: bool, start_step: int = 0) -> tf.data.Dataset:
    """Batches of token_ids, sequence_ids, position_ids, labels [B, T] int32 and label_weights [B, T] float32.

    Training: endless, the order of an epoch is a function of (run.seed, epoch), rows after the last full batch are left
    out (others each time); with run.train.pack a row holds several sequences that do not see each other. Otherwise:
    once, in order, a sequence a row; the last batch is filled up with rows of weight 0.
    """
    batch, length = run.train.global_batch, run.train.sequence_length
    steps = reply_steps_per_epoch(replies, run, training=training)
    plan = functools.lru_cache(2)(functools.partial(_plan, replies, run, training))  # this epoch's, and the next one's

    def read(step: int) -> tuple[np.ndarray, ...]:
        epoch, step = divmod(int(step), steps)
        order, borders = plan(epoch)
        arrays = [np.zeros([batch, length], np.int32) for _ in _NAMES[:-1]] + [np.zeros([batch, length], np.float32)]
        arrays[0].fill(replies.pad)
        rows, num_rows = np.arange(step * batch, (step + 1) * batch), len(borders) - 1
        for place, row in enumerate(rows % num_rows if training else rows[rows < num_rows]):
            _fill([array[place] for array in arrays], replies, order[slice(*borders[row : row + 2])])
        return tuple(arrays)

    def of_step(step: tf.Tensor) -> dict[str, tf.Tensor]:
        types = [tf.float32 if name == "label_weights" else tf.int32 for name in _NAMES]
        arrays = tf.numpy_function(read, [step], types)
        return {name: tf.ensure_shape(array, [batch, length]) for name, array in zip(_NAMES, arrays, strict=True)}

    numbers = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max if training else steps)
    return numbers.map(of_step, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def reply_steps_per_epoch(replies: LearnedReplies, run: Run, *, training: bool) -> int:
    """Batches of one epoch: full ones in training, all of them otherwise."""
    rows, batch = len(_plan(replies, run, training, 0)[1]) - 1, run.train.global_batch
    return max(1, rows // batch) if training else math.ceil(rows / batch)


def _plan(replies: LearnedReplies, run: Run, training: bool, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The sequences row after row [C], and where in them each row begins."""
    if training and run.train.pack:
        return deal_to_rows(np.diff(replies.starts), run.train.sequence_length, run.seed, epoch, MOST_IN_A_ROW)
    order, borders = np.arange(len(replies)), np.arange(len(replies) + 1)
    return np.random.default_rng([run.seed, epoch, 4]).permutation(order) if training else order, borders


def _fill(row: Sequence[np.ndarray], replies: LearnedReplies, sequences: np.ndarray) -> None:
    """Writes sequences into the arrays [T] of a row, in the order of _NAMES."""
    begin = 0
    for ordinal, sequence in enumerate(sequences, 1):
        source = slice(*replies.starts[sequence : sequence + 2])
        place = slice(begin, begin + source.stop - source.start)
        values = replies.token_ids[source], ordinal, np.arange(place.stop - begin)
        for array, value in zip(row, (*values, replies.labels[source], replies.weights[source]), strict=True):
            array[place] = value
        begin = place.stop


def _tokenized(
    dialogues: Sequence[Dialogue], tokenizer: Tokenizer, run: Run
) -> list[tuple[np.ndarray, list[Exchange]]]:
    """Of each dialogue what the assistant is told first, and its exchanges."""
    texts, counts = list[str](), list[int]()
    for dialogue in dialogues:
        own = _written(dialogue, run)
        texts += own
        counts.append(len(own))
    ids = iter([row.astype(np.int32) for row in np.split(*_values_and_cuts(tokenizer, texts))])
    found = []
    for count in counts:
        system, *rest = [next(ids) for _ in range(count)]
        found.append((system, [Exchange(*pair) for pair in zip(rest[::2], rest[1::2], strict=True)]))
    return found


def _values_and_cuts(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = tokenizer.tokenize(tf.constant(texts, tf.string, [len(texts)]))
    return rows.values.numpy(), rows.row_splits.numpy()[1:-1]


def _written(dialogue: Dialogue, run: Run) -> list[str]:
    """What the assistant is told first, or "", and then prompt and reply in turn."""
    chat = run.data.chat
    texts = [write_messages(chat, [("system", dialogue.system)]) if dialogue.system else ""]
    asked: list[tuple[Role, str]] = []
    for turn in dialogue.turns:
        if turn.speaker == ASSISTANT:
            texts += [reply_prompt(chat, asked), f"{turn.text}{chat.roles.assistant.suffix}"]
            asked = []
        else:
            asked.append(("user", turn.text))
    return texts


def _pieces(system: np.ndarray, exchanges: list[Exchange], length: int) -> list[tuple[list[Exchange], int]]:
    """Which exchanges share a sequence, and how many of them are only there as context."""
    room = length - 1 - len(system)
    pieces, first, begin = list[tuple[list[Exchange], int]](), 0, 0  # first: of this sequence; begin: that it learns
    for index, exchange in enumerate(exchanges):
        if index > begin and sum(map(len, exchanges[first : index + 1])) > room:
            pieces.append((exchanges[first:index], begin - first))
            first = begin = index
            most = min(room - len(exchange), int(CONTEXT_SHARE * length))
            while first and sum(map(len, exchanges[first - 1 : index])) <= most:
                first -= 1
    return [*pieces, (exchanges[first:], begin - first)] if exchanges else []


def _write_sequence(
    bos: int, eos: int, length: int, system: np.ndarray, exchanges: list[Exchange], num_context: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, labels and weights of a sequence, at most `length` of each."""
    if len(exchanges) == 1:  # the only one that may be too long for a row
        only = exchanges[0]
        room = max(0, length - 1 - len(only.reply))
        prompt = np.concatenate([system, only.prompt])
        system, exchanges = prompt[:0], [Exchange(prompt[max(0, len(prompt) - room) :], only.reply)]
    parts = [np.array([bos], np.int32), system, *(part for one in exchanges for part in (one.prompt, one.reply))]
    token_ids = np.concatenate(parts)
    labels, weights = np.append(token_ids[1:], eos), np.zeros(len(token_ids), np.float32)
    end = 1 + len(system)
    for index, exchange in enumerate(exchanges):
        begin, end = end + len(exchange.prompt), end + len(exchange)
        labels[end - 1] = eos
        weights[begin - 1 : end] = index >= num_context
    return token_ids[:length], labels[:length].astype(np.int32), weights[:length]
