"""In which public forms do labelled financial texts come? Each by name, read into one form: text, label, source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kerasllm.errors import ConfigError, DataError


@dataclass(frozen=True)
class Format:
    """Where text and label stand in a tab-separated file with a header line and no quoting."""

    text: str = "text"
    label: str = "label"
    names: Mapping[str, str] = field(default_factory=dict)  # label in the file -> label of ours; empty: as they are
    drop: tuple[str, str] | None = None  # (column, value): rows left out


FORMATS = {
    "tsv": Format(),
    # Malo et al. 2014, Good debt or bad debt
    "financial_phrasebank": Format(text="sentence"),
    # zeroshot/twitter-financial-news-sentiment
    "twitter_fin_sentiment": Format(label="sentiment", names={"bearish": "negative", "bullish": "positive"}),
    # wwwxmu: titles of company news, 1 is good news; marked rows stand in its test part too
    "zh_fin_news_sentiment": Format(
        text="title", names={"1": "positive", "0": "negative"}, drop=("title_also_in_test", "1")
    ),
}


@dataclass(frozen=True)
class Row:
    """One labelled text and the file it came from."""

    text: str
    label: str
    source: str


def read(spec: str) -> list[Row]:
    """Reads `FORMAT=FILE`, or `FILE` in the form `tsv`.

    Raises:
      ConfigError: the format has no such name.
      DataError: the file is missing, not UTF-8, lacks a column, or has a row without text.
    """
    name, equals, file = spec.partition("=")
    if not equals:
        name, file = "tsv", spec
    if name not in FORMATS:
        raise ConfigError(f"--input {spec}: no format {name!r}. There are: {', '.join(FORMATS)}.")
    rows = list(_rows(Path(file), FORMATS[name]))
    if not rows:
        raise DataError(f"{file}: no rows. Give a file with a header line and at least one labelled text.")
    return rows


def _rows(path: Path, form: Format) -> Iterator[Row]:
    from kerasllm.data import read_columns

    columns = [form.text, form.label, *([form.drop[0]] if form.drop else [])]
    for number, fields in read_columns(path, columns):
        if form.drop and fields[form.drop[0]] == form.drop[1]:
            continue
        text, label = fields[form.text].strip(), fields[form.label].strip()
        if not text:
            raise DataError(f"{path}:{number}: the text is empty. Mend or remove the row.")
        yield Row(text, form.names.get(label, label), path.name)
