"""How well does naive Bayes on words and pairs of words classify? Chinese characters count as words."""

import re
from collections.abc import Sequence

# Han characters one by one; elsewhere runs of letters and digits, numbers' values set aside, and single signs
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+|\d+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Lower-case words of a text; each Han character is one, and every number is `0`."""
    return ["0" if word.isdigit() else word for word in _WORD.findall(text.lower())]


def predict(train_texts: Sequence[str], train_labels: Sequence[int], texts: Sequence[str]) -> list[int]:
    """Labels of `texts` by multinomial naive Bayes (add-one) on words and bigrams seen in training.

    Raises:
      ValueError: there is nothing to learn from.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    if not train_texts:
        raise ValueError("no training texts")
    words = CountVectorizer(tokenizer=split_words, token_pattern=None, lowercase=False, ngram_range=(1, 2))
    model = make_pipeline(words, MultinomialNB()).fit(train_texts, train_labels)
    return [int(label) for label in model.predict(texts)]
