"""What does the generator of replies learn from, and when may it speak? Prompts from the index, without the row."""

# N pairs, K replies, E entries of the index

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from apps.customer_service.formats import Pair
from apps.customer_service.task import queries_of
from kerasllm import data, decisions
from kerasllm.config import Run
from kerasllm.data import LearnedReplies
from kerasllm.export.grounded import prompt_of
from kerasllm.export.grounded_reply import NOT_THERE
from kerasllm.retrieval import ReplyIndex
from kerasllm.text import Tokenizer
from kerasllm.text.named_values import filled_or_named, named_values
from kerasllm.text.overlap import agreement
from kerasllm.text.slots import Slot, Templates

BATCH = 32  # questions looked up together


@dataclasses.dataclass(frozen=True)
class Grounds:
    """What a generator reads and what it should say, slots filled from the customer's words.

    Attributes:
      replies: [N, K] object, retrieved, best first; "" where there are fewer.
      targets: N texts.
    """

    replies: np.ndarray
    targets: list[str]


def find_grounds(
    index: ReplyIndex, pairs: Sequence[Pair], slots: Sequence[Slot], run: Run, history: Sequence[Pair] = ()
) -> Grounds:
    """Retrieves for each pair, without itself.

    A pair of the index's own history finds neither its question nor, unless that reply was given to another question
    too, its reply: the generator would learn to repeat what it will not find later. Pairs with the same question and
    reply are the same pair.

    Args:
      index: of the replies.
      pairs: N of them.
      slots: that replies speak of.
      run: assistant.context_turns, grounding.replies.
      history: pairs that the index was made from.
    """
    given = defaultdict(set)
    for pair in history:
        given[pair.reply].add(data.normal_form(pair.question))
    entries = [data.normal_form(entry) for entry in index.entries]
    own_text = np.array([entry == reply for entry, reply in zip(index.entries, index.replies_of_entries, strict=True)])
    of_reply = defaultdict(list)
    for place, reply in enumerate(index.replies_of_entries):
        of_reply[reply].append(place)
    queries, most = queries_of(pairs, run.assistant.context_turns), run.grounding.replies
    search = tf.function(lambda texts, without: index.search(texts, most, without))
    templates, targets = Templates(index.replies, slots), Templates([pair.reply for pair in pairs], slots)
    replies, texts = [], list[str]()
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        without = np.zeros([len(part), len(entries)], bool)
        for row, pair in enumerate(part):
            question = data.normal_form(pair.question)
            is_its_only_one = given[pair.reply] == {question}
            for place in of_reply[pair.reply] if question in given[pair.reply] else ():
                without[row, place] = entries[place] == question or (own_text[place] and is_its_only_one)
        found = search(tf.constant(queries[start : start + BATCH]), tf.constant(without))
        columns = tf.constant([pair.question for pair in part]), tf.constant([pair.context for pair in part])
        values = named_values(*columns, slots)
        filled = filled_or_named(templates, slots, found["replies"], values)
        filled = tf.where(found["similarity"] > NOT_THERE, filled, "").numpy()
        replies += [[text.decode() for text in row] + [""] * (most - len(row)) for row in filled]
        rows = tf.range(start, start + len(part))[:, None]
        texts += [text.decode() for text in filled_or_named(targets, slots, rows, values)[:, 0].numpy()]
    return Grounds(np.array(replies, object).reshape(len(pairs), most), texts)


def learned(
    index: ReplyIndex,
    pairs: Sequence[Pair],
    slots: Sequence[Slot],
    tokenizer: Tokenizer,
    run: Run,
    history: Sequence[Pair] = (),
) -> LearnedReplies:
    """The sequences that a generator learns; replies longer than run.grounding.max_new_tokens are left out.

    Raises:
      DataError: no reply is left.
    """
    grounds, prompt = find_grounds(index, pairs, slots, run, history), prompt_of(tokenizer, run)
    sizes = tokenizer.tokenize(tf.constant(grounds.targets, tf.string, [len(pairs)])).row_lengths().numpy()
    kept = np.flatnonzero(sizes < run.grounding.max_new_tokens).tolist()
    prompts = list[np.ndarray]()
    for start in range(0, len(kept), BATCH):
        rows = kept[start : start + BATCH]
        replies = tf.constant(grounds.replies[rows].tolist(), tf.string)
        contexts, questions = (
            tf.constant(column)
            for column in zip(*((pairs[row].context, pairs[row].question) for row in rows), strict=True)
        )
        ids = prompt(replies, contexts, questions)
        prompts += [np.array(row[1:], np.int32) for row in ids.to_list()]  # bos is not the prompt's
    print(f"{len(kept):,} replies to learn; {len(pairs) - len(kept):,} are longer than grounding.max_new_tokens")
    return data.replies_after(prompts, [grounds.targets[row] for row in kept], tokenizer, run)


def are_right(tokenizer: Tokenizer, texts: Sequence[str], right: Sequence[Sequence[str]], least: float) -> np.ndarray:
    """[N] bool: the text agrees with one of its right ones, by kerasllm.text.overlap, to `least` or more."""
    counts = [len(each) for each in right]
    repeated = [text for text, count in zip(texts, counts, strict=True) for _ in range(count)]
    flat = [one for each in right for one in each]
    found = agreement(
        tokenizer, tf.constant(repeated, tf.string, [len(flat)]), tf.constant(flat, tf.string, [len(flat)])
    )
    parts = np.split(found.numpy() >= least, np.cumsum(counts))[:-1]
    return np.array([part.any() for part in parts], bool)


def least_score(scores: np.ndarray, is_right: np.ndarray, precision: float) -> float:
    """The score from which on written replies are right as often as stated; decisions.NEVER where none is."""
    found = decisions.threshold_for_precision(scores, is_right, precision)
    return found if math.isfinite(found) else decisions.NEVER
