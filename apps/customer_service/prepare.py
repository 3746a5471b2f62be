"""Dialogues and labelled questions in, one folder out: pairs, intents, replies; checked, masked, without leaks.

python -m apps.customer_service.prepare --input dialogues=chats.jsonl --input faq=faq.tsv --output data/support
"""

import collections
import dataclasses
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import define_run_flags, run_from_flags, run_program
from kerasllm.config import Data
from kerasllm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from apps.customer_service.formats import Pair, Rows

FLAGS = flags.FLAGS
SPLITS = ("train", "validation", "test")
OUT_OF_SCOPE = "oos"  # label of questions that belong to no intent, where the configuration names no other
SLOTS = Path(__file__).with_name("slots.yaml")

Parts = dict[str, list["Pair"]]
Labelled = dict[str, list[tuple[str, str]]]


def define_flags() -> None:
    """Says where from and where to."""
    define_run_flags()
    flags.DEFINE_multi_string("input", [], "FORMAT=FILE of dialogues, pairs or intents; may be repeated.")
    flags.DEFINE_multi_string("validation_input", [], "FORMAT=FILE that is the validation part as it is.")
    flags.DEFINE_multi_string("test_input", [], "FORMAT=FILE that is the test part as it is; may be repeated.")
    flags.DEFINE_multi_string("slots", [], "YAML of further slots, beside those of the application.")
    flags.DEFINE_bool("templates", True, "Turn case values in replies into slots and blanks.")
    flags.DEFINE_bool("mask", True, "Mask e-mail addresses, phone, card and identity numbers of customers.")
    flags.DEFINE_string("output", None, "Folder to make.", required=True)


def main() -> None:
    """Reads, masks, finds templates, checks, splits and writes, and prints what there is."""
    settings = run_from_flags().data
    if not FLAGS.input:
        raise ConfigError("--input is missing. Give FORMAT=FILE, for example faq=faq.tsv.")
    output = Path(FLAGS.output)
    if output.exists():
        raise DataError(f"{output}: exists already. Remove it or give another --output.")

    from apps.customer_service.formats import read
    from apps.customer_service.templates import find_templates
    from kerasllm.text.slots import read_slots, write_slots

    slots = read_slots(SLOTS, *FLAGS.slots)
    given = {"train": FLAGS.input, "validation": FLAGS.validation_input, "test": FLAGS.test_input}
    rows = {
        part: [_masked(read(spec)) if FLAGS.mask else read(spec) for spec in specs] for part, specs in given.items()
    }
    pairs = {part: [pair for each in several for pair in each.pairs] for part, several in rows.items()}
    if FLAGS.templates:
        pairs = _by_part(pairs, find_templates([pair for part in pairs.values() for pair in part], slots))
    intents = {part: [row for each in several for row in each.intents] for part, several in rows.items()}
    pair_parts, intent_parts = split_pairs(pairs, settings), split_intents(intents, settings)
    intent_parts = {**intent_parts, "train": without(intent_parts["train"], pair_parts["test"])}
    out_of_scope = settings.out_of_scope_label or OUT_OF_SCOPE
    check(intent_parts, pair_parts, out_of_scope)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        write(temporary, pair_parts, intent_parts, out_of_scope)
        write_slots(slots, temporary / "slots.yaml")
        temporary.rename(output)
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def split_pairs(given: Parts, settings: Data) -> Parts:
    """Deals dialogues and questions to the parts by a hash; those of a given part stay there and leave the others."""
    from kerasllm.data import split_by_text

    parts: Parts = {part: list(given[part]) for part in SPLITS}
    if given["train"]:
        kept = {_group(pair) for part in ("validation", "test") for pair in given[part]}
        groups: dict[str, list[Pair]] = collections.defaultdict(list)
        for pair in given["train"]:
            if _group(pair) not in kept:
                groups[_group(pair)].append(pair)
        dealt = split_by_text(groups, str, _shares(given, settings))
        for part in SPLITS:
            parts[part] = [
                *given[part] * (part != "train"),
                *(row for key in dealt.get(part, ()) for row in groups[key]),
            ]
    parts = {part: list(dict.fromkeys(rows)) for part, rows in parts.items()}
    asked = {(pair.context, pair.question) for pair in parts["test"]}  # stock phrases of several dialogues
    for part in ("train", "validation"):
        parts[part] = [pair for pair in parts[part] if (pair.context, pair.question) not in asked]
    return parts


def split_intents(given: Labelled, settings: Data) -> Labelled:
    """Deals labelled questions to the parts by a hash of their text, beside those of given parts."""
    from kerasllm.data import split_by_text

    kept = [text for part in ("validation", "test") for text, _ in given[part]]
    dealt = split_by_text(given["train"], lambda row: row[0], _shares(given, settings), kept)
    return {part: [*given[part] * (part != "train"), *dealt.get(part, ())] for part in SPLITS}


def without(rows: Sequence[tuple[str, str]], test: Iterable["Pair"]) -> list[tuple[str, str]]:
    """Intent rows whose question is not one of the test part's pairs."""
    from kerasllm.data import drop_shared

    return drop_shared(rows, lambda row: row[0], (pair.question for pair in test))


def check(intents: Labelled, pairs: Parts, out_of_scope: str) -> None:
    """Prints what the checks find in both tables.

    Raises:
      DataError: an error of kerasllm.data.checks, such as an empty part.
    """
    from kerasllm.data.checks import check_table

    if any(intents.values()):
        in_scope = {part: [row for row in rows if row[1] != out_of_scope] for part, rows in intents.items()}
        report = check_table(in_scope, known_labels={label for _, label in in_scope["train"]})
        print(f"intents\n{report}\n")
        report.raise_errors()
    if any(pairs.values()):
        questions = {
            part: [(f"{pair.context} {pair.question}", "pair") for pair in rows] for part, rows in pairs.items()
        }
        report = check_table(questions)
        print(f"questions with replies\n{report}\n")
        report.raise_errors()


def write(folder: Path, pairs: Parts, intents: Labelled, out_of_scope: str) -> None:
    """Writes pairs/*.tsv, replies.tsv, intents/*.tsv and intents/labels.txt; a table without rows is left out."""
    if any(pairs.values()):
        for part, rows in pairs.items():
            lines = [("context", "question", "reply", "intent")]
            lines += [(pair.context.replace("\n", "\\n"), pair.question, pair.reply, pair.intent) for pair in rows]
            _write_table(folder / "pairs" / f"{part}.tsv", lines)
        counts = collections.Counter(pair.reply for rows in pairs.values() for pair in rows)
        _write_table(folder / "replies.tsv", [("reply", "times_used"), *((r, str(n)) for r, n in counts.most_common())])
        print(f"{len(counts):,} different replies; look through replies.tsv before it is served")
    if any(intents.values()):
        for part, labelled in intents.items():
            _write_table(folder / "intents" / f"{part}.tsv", [("text", "label"), *labelled])
        labels = sorted({label for _, label in intents["train"]} - {out_of_scope})
        (folder / "intents" / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def _write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)


def _masked(rows: "Rows") -> "Rows":
    """Customers' words without personal data; so are replies, where the customer named the same thing."""
    from kerasllm.text.privacy import mask_personal_data as mask

    def masked(pair: "Pair") -> "Pair":
        question, context = mask(pair.question), mask(pair.context)
        is_private = question != pair.question or context != pair.context or pair.group
        reply = mask(pair.reply) if is_private else pair.reply  # a published answer keeps the company's own number
        return dataclasses.replace(pair, question=question, context=context, reply=reply)

    pairs = [masked(pair) for pair in rows.pairs]
    return dataclasses.replace(rows, pairs=pairs, intents=[(mask(text), label) for text, label in rows.intents])


def _by_part(parts: Parts, pairs: Sequence["Pair"]) -> Parts:
    """The pairs, in the order of the parts, dealt back to them."""
    rest = iter(pairs)
    return {part: [next(rest) for _ in rows] for part, rows in parts.items()}


def _shares(given: Mapping[str, Sequence[object]], settings: Data) -> dict[str, float]:
    """Shares of the parts that no file was given for; the test part is dealt first."""
    wanted = {"test": settings.test_share, "validation": settings.validation_share}
    return {part: 0.0 if given[part] else share for part, share in wanted.items()}


def _group(pair: "Pair") -> str:
    from kerasllm.data.splits import normal_form

    return pair.group or normal_form(pair.question)


if __name__ == "__main__":
    define_flags()
    run_program(main)
