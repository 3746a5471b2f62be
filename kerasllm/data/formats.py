"""In which public forms do labelled texts come? Each by name, read into one form: text, labels by column, source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kerasllm.config import Data
from kerasllm.data.tables import read_columns
from kerasllm.errors import ConfigError, DataError


@dataclass(frozen=True)
class Format:
    """Where text and label stand in a table with a header line."""

    head: str  # what the label says: the name of the head that it goes to where a run has several
    label: str = "label"
    text: str = "text"
    names: Mapping[str, str] = field(default_factory=dict)  # label in the file -> label of ours; others as they are
    drop: tuple[str, str] | None = None  # (column, value): rows left out, where the file has the column
    at_least: str | None = None  # column of whole numbers that `NAME:NUMBER=FILE` asks a smallest value of


FORMATS = {
    # Malo et al. 2014, Good debt or bad debt; financial_phrasebank:100 takes what all annotators agree on
    "financial_phrasebank": Format("sentiment", text="sentence", at_least="agree_at_least"),
    # zeroshot/twitter-financial-news-sentiment and -topic
    "twitter_fin_sentiment": Format(
        "sentiment", label="sentiment", names={"bearish": "negative", "bullish": "positive"}
    ),
    "twitter_fin_topic": Format("topic", label="topic"),
    # wwwxmu: titles of company news, 1 is good news; marked rows stand in its test part too
    "zh_fin_news_sentiment": Format(
        "sentiment", text="title", names={"1": "positive", "0": "negative"}, drop=("title_also_in_test", "1")
    ),
    "banking77": Format("intent", label="category"),  # Casanueva et al. 2020
    "clinc150": Format("intent", label="intent"),  # Larson et al. 2019; out of scope is "oos"
}


@dataclass(frozen=True)
class Row:
    """One text, its label in each column that has one, and the file it came from."""

    text: str
    labels: Mapping[str, str]
    source: str


def read_format(spec: str, data: Data) -> list[Row]:
    """Reads `FORMAT=FILE` or `FORMAT:NUMBER=FILE`, or `FILE` (also `tsv=FILE`) with the columns that `data` names.

    Raises:
      ConfigError: there is no such format, or the run has no head for its labels.
      DataError: the file is missing, not UTF-8, lacks a column, has a row without text, or no rows.
    """
    name, equals, file = spec.partition("=")
    if not equals:
        name, file = "tsv", spec
    name, _, number = name.partition(":")
    if name == "tsv":
        rows = list(_own_rows(Path(file), data))
    elif name in FORMATS:
        form = FORMATS[name]
        if number and (form.at_least is None or not number.isdecimal()):
            raise ConfigError(f"--input {spec}: {name} has no choice {number!r}. Give {name}={file}.")
        rows = list(_public_rows(Path(file), form, _column_of(form, spec, data), int(number or 0)))
    else:
        raise ConfigError(f"--input {spec}: no format {name!r}. There are: tsv, {', '.join(FORMATS)}.")
    if not rows:
        raise DataError(f"{file}: no rows. Give a file with a header line and at least one labelled text.")
    return rows


def _column_of(form: Format, spec: str, data: Data) -> str:
    heads = data.label_heads()
    if data.heads and form.head not in heads:
        raise ConfigError(f"--input {spec}: says the {form.head}, the run has the heads {', '.join(heads)}.")
    return heads[form.head].column if data.heads else data.label_column


def _public_rows(path: Path, form: Format, column: str, least: int) -> Iterator[Row]:
    asked = [form.at_least] if form.at_least and least else []
    for number, fields in read_columns(path, [form.text, form.label, *asked]):
        if form.drop and fields.get(form.drop[0]) == form.drop[1]:
            continue
        if form.at_least and least and int(fields[form.at_least]) < least:
            continue
        label = fields[form.label].strip()
        yield Row(_text(path, number, fields[form.text]), {column: form.names.get(label, label)}, path.name)


def _own_rows(path: Path, data: Data) -> Iterator[Row]:
    columns = [head.column for head in data.label_heads().values()]
    needed = [data.text_column, *([] if data.heads else columns)]
    for number, fields in read_columns(path, needed):
        labels = {column: fields[column].strip() for column in columns if column in fields}
        yield Row(_text(path, number, fields[data.text_column]), labels, path.name)


def _text(path: Path, number: int, text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise DataError(f"{path}:{number}: the text is empty. Mend or remove the row.")
    return text
