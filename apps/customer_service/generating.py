"""How does a trained generator join the assistant, and from which score on may it speak? Fitted on held-out pairs."""

# N pairs

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from apps.customer_service.assembly import Assembled
from apps.customer_service.formats import Pair
from apps.customer_service.grounding import are_right, least_score
from kerasllm import trained
from kerasllm.export.assistant import Confidence
from kerasllm.export.grounded import GroundedGenerator
from kerasllm.export.grounded_reply import GENERATED, GroundedAssistantSignatures, GroundedConfidence
from kerasllm.text.named_values import filled_or_named, named_values
from kerasllm.text.slots import Templates
from kerasllm.trained import Trained

PART = "generation"  # of the configuration, and folder of the workdir
BATCH = 16  # questions answered together


@dataclasses.dataclass(frozen=True)
class GeneratingAssistant:
    """An assistant that writes replies of its own.

    Attributes:
      signatures: what is served.
      confidence: when a written reply is given.
      generator: the model behind it.
    """

    signatures: GroundedAssistantSignatures
    confidence: GroundedConfidence
    generator: Trained


def has_generator(workdir: Path) -> bool:
    """Was a generator trained for this assistant?"""
    return (workdir / PART / "run.yaml").exists()


def add_generator(assembled: Assembled, confidence: Confidence, pairs: Sequence[Pair]) -> GeneratingAssistant:
    """Loads the generator and chooses from which score on it speaks, for the precision that the assistant promises.

    Args:
      assembled: the assistant; its workdir holds the generator.
      confidence: when the assistant answers by itself.
      pairs: held-out ones; as many of the first as the generator's run.train.evaluation_rows are answered.

    Raises:
      CheckpointError: the generator is missing or damaged.
    """
    generator = trained.load(assembled.workdir / PART)
    settings, precision = generator.run.grounding, assembled.run.decisions.precision
    model = GroundedGenerator(generator.model, generator.tokenizer, generator.run, assembled.slots)
    undecided = GroundedConfidence(0.0, settings.cited_from, precision)
    signatures = GroundedAssistantSignatures(assembled.signatures(confidence), model, settings.replies, undecided)
    assistant = GeneratingAssistant(signatures, undecided, generator)
    asked = [pair for pair in pairs if assembled.right_replies(pair)][: generator.run.train.evaluation_rows]
    said = write_replies(assistant, asked)
    is_given = said["source"] == GENERATED
    is_right = judge(assembled, assistant, asked, said["generated"].tolist())
    min_score = least_score(said["score"][is_given], is_right[is_given], precision)
    signatures.speak_from(min_score)
    return dataclasses.replace(assistant, confidence=dataclasses.replace(undecided, min_score=min_score))


def write_replies(
    assistant: GeneratingAssistant, pairs: Sequence[Pair], min_score: float = -1.0
) -> dict[str, np.ndarray]:
    """What `generate_reply` answers to each question, greedily: its outputs [N, ...] by name, strings as str.

    Args:
      assistant: that is asked.
      pairs: questions and contexts.
      min_score: below 0: the fitted one.
    """
    generate, parts = assistant.signatures.traced(), []
    for start in range(0, max(1, len(pairs)), BATCH):
        part = pairs[start : start + BATCH]
        columns = ([pair.question for pair in part], [pair.context for pair in part])
        question, context = (tf.constant(column, tf.string, [len(part)]) for column in columns)
        settings = greedy_settings(len(part), assistant.generator.run.grounding.max_new_tokens, min_score)
        parts.append(generate(question=question, context=context, **settings))
    joined = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    return {name: _as_text(column) if column.dtype == object else column for name, column in joined.items()}


def greedy_settings(rows: int, max_new_tokens: int, min_score: float = -1.0) -> dict[str, Any]:
    """Settings of so many rows that take the most probable word each time."""
    return {
        "max_new_tokens": tf.fill([rows], max_new_tokens),
        "temperature": tf.zeros([rows]),
        "seed": tf.zeros([rows], tf.int64),
        "min_score": tf.fill([rows], min_score),
    }


def judge(
    assembled: Assembled, assistant: GeneratingAssistant, pairs: Sequence[Pair], texts: Sequence[str]
) -> np.ndarray:
    """[N] bool: a written reply agrees with one that would be right, slots filled, to run.grounding.right_from."""
    columns = ([pair.question for pair in pairs], [pair.context for pair in pairs])
    question, context = (tf.constant(column, tf.string, [len(pairs)]) for column in columns)
    values = named_values(question, context, assembled.slots)
    templates = Templates(assembled.index.replies, assembled.slots)
    right = []
    for row, pair in enumerate(pairs):
        places = tf.constant([assembled.right_replies(pair)], tf.int32)
        filled = filled_or_named(templates, assembled.slots, places, values[row : row + 1])
        right.append([text.decode() for text in filled[0].numpy()])
    return are_right(assistant.generator.tokenizer, texts, right, assistant.generator.run.grounding.right_from)


def _as_text(column: np.ndarray) -> np.ndarray:
    flat = [value.decode("utf-8", "replace") for value in column.ravel()]
    return np.array(flat, object).reshape(column.shape)
