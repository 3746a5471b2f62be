"""Which words of a historical reply belong to one customer's case? They become slots to fill or blanks for a person."""

import collections
from collections.abc import Iterable, Sequence
from dataclasses import replace

from apps.customer_service.formats import Pair
from kerasllm.text.slots import Slot, find_spans, normal_form
from kerasllm.text.turns import customer_turns

LEAST_SHARE = 0.15  # of a reply's customers who named the value themselves: then it can be asked for

Pieces = tuple[tuple[str, str], ...]  # ("text", words) or (slot name, value)


def find_templates(pairs: Sequence[Pair], slots: Sequence[Slot]) -> list[Pair]:
    """The pairs with their replies as templates.

    Replies that differ in values only are one template. A value in it becomes
      `{slot}`  if customers name it themselves and it can be asked for,
      `[slot]`  if it changes from case to case but only the company knows it: a person has to fill it in,
    and stays as it is if it never changes, unless it is personal.
    """
    forms: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    cut = [_pieces(pair.reply, slots) for pair in pairs]
    for index, pieces in enumerate(cut):
        forms[tuple(value if name == "text" else "\0" + name for name, value in pieces)].append(index)
    result = list(pairs)
    for members in forms.values():
        marks = _marks([cut[index] for index in members], [pairs[index] for index in members], slots)
        for index in members:
            reply = "".join(mark or value for (_, value), mark in zip(cut[index], marks, strict=True))
            result[index] = replace(pairs[index], reply=reply)
    return result


def _pieces(reply: str, slots: Sequence[Slot]) -> Pieces:
    pieces, end = [], 0
    for start, stop, name in find_spans(normal_form(reply), slots):
        pieces += [("text", reply[end:start]), (name, reply[start:stop])]
        end = stop
    return (*pieces, ("text", reply[end:]))


def _marks(members: Sequence[Pieces], pairs: Sequence[Pair], slots: Sequence[Slot]) -> list[str]:
    """For each piece of one form what stands in the template; "" leaves the words."""
    by_name = {slot.name: slot for slot in slots}
    said = [normal_form("\n".join([pair.question, *customer_turns(pair.context)])) for pair in pairs]
    names = [name for name, _ in members[0]]
    marks = []
    for place, name in enumerate(names):
        if name == "text":
            marks.append("")
            continue
        values = [pieces[place][1] for pieces in members]
        named = sum(normal_form(value) in words for value, words in zip(values, said, strict=True)) / len(members)
        agree = all(_same(pieces, [k for k, other in enumerate(names) if other == name]) for pieces in members)
        slot = by_name[name]
        if named >= LEAST_SHARE and slot.ask and agree:
            marks.append(f"{{{name}}}")
        else:
            marks.append(f"[{name}]" if slot.personal or len(set(values)) > 1 or named else "")
    return marks


def _same(pieces: Pieces, places: Iterable[int]) -> bool:
    return len({pieces[place][1] for place in places}) == 1
