"""How well does a GPT write? What it expects of held-out text, how varied its own texts are, and its replies."""

# B rows, T tokens, P tokens of a prompt, N new tokens

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm import metrics, models
from kerasllm.export.generation import GenerationSignatures
from kerasllm.export.settings import greedy
from kerasllm.losses import weighted_cross_entropy
from kerasllm.text import Tokenizer, text_sizes
from kerasllm.trained import Trained


def expectations(trained: Trained, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Perplexity of next tokens, and what it is for each byte and character that they write.

    The loss of all tokens, ends of documents included, is divided by the tokens, bytes or characters. Only those of
    bytes and characters can be compared between vocabularies.

    Args:
      trained: a GPT.
      batches: of kerasllm.data.pretraining_batches or reply_batches, each row once.

    Returns: loss (nats a token), bits_per_byte, perplexity_per_token, _per_byte and _per_character, and how many
      tokens, bytes and characters there were.
    """
    sizes = text_sizes(trained.tokenizer)

    @tf.function(reduce_retracing=True)
    def loss_of(batch: dict[str, Any]) -> Any:
        logits = trained.model(_without_answers(batch), training=False)["logits"]
        return weighted_cross_entropy(logits, batch["labels"], batch["label_weights"])["loss"]

    nats, counts = 0.0, np.zeros(3)
    for batch in batches:
        nats += float(loss_of(batch))
        learned = np.asarray(batch["labels"])[np.asarray(batch["label_weights"]) > 0]
        counts += [len(learned), *(size[learned].sum() for size in sizes)]
    tokens, num_bytes, characters = counts.tolist()
    return {
        "loss": nats / tokens,
        "bits_per_byte": nats / num_bytes / math.log(2),
        "perplexity_per_token": metrics.perplexity(nats / tokens),
        "perplexity_per_byte": metrics.perplexity(nats / num_bytes),
        "perplexity_per_character": metrics.perplexity(nats / characters),
        "tokens": tokens,
        "bytes": num_bytes,
        "characters": characters,
    }


def variety(texts: Sequence[Sequence[Any]]) -> dict[str, float]:
    """distinct_1, _2 and _3, and repeated_4, of texts of tokens or words; see kerasllm.metrics."""
    return {
        **{f"distinct_{n}": metrics.distinct_share(texts, n) for n in (1, 2, 3)},
        "repeated_4": metrics.repeated_share(texts, 4),
    }


def continued(
    trained: Trained, rows: np.ndarray, prompt_tokens: int, temperature: float, seed: int = 0
) -> dict[str, dict[str, float]]:
    """How varied are continuations of the beginnings of rows [B, T], beside the true ones of the same length?"""
    new_tokens = rows.shape[1] - prompt_tokens
    ids = models.sample_continuations(trained.model, rows[:, :prompt_tokens], new_tokens, temperature, seed=seed)
    both = {"generated": ids.numpy()[:, prompt_tokens:], "true": rows[:, prompt_tokens:]}
    return {name: variety(part.tolist()) for name, part in both.items()}


def replies_to(trained: Trained, prompts: Sequence[str], max_new_tokens: int, batch: int = 16) -> list[str]:
    """The most probable reply to each prompt, up to the first stop string of run.data.chat.

    A prompt that leaves too little room loses its beginning, a reply loses its end at max_new_tokens.
    """
    longest = trained.model.backbone.options.max_length - max_new_tokens - 1
    prompts = _last_tokens(trained.tokenizer, prompts, longest)
    generate = GenerationSignatures(trained.model, trained.tokenizer).signatures()["generate"]
    stop = [one.encode() for one in trained.run.data.chat.stop]
    texts = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        settings = {**greedy(max_new_tokens, len(part)), "stop": np.array([stop] * len(part), object)}
        answers = generate(prompt=tf.constant(part), **{name: tf.constant(value) for name, value in settings.items()})
        texts += [text.decode() for text in answers["text"].numpy().tolist()]
    return texts


def _last_tokens(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> list[str]:
    """The ends of texts that have more tokens than `longest`; the others as they are."""
    ids = tokenizer.tokenize(tf.constant(list(texts)))
    ends = tokenizer.detokenize(ids[:, -longest:]).numpy().tolist()
    is_long = ids.row_lengths().numpy() > longest
    return [end.decode() if cut else text for text, end, cut in zip(texts, ends, is_long, strict=True)]


def _without_answers(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: rows for name, rows in batch.items() if not name.startswith("label")}
