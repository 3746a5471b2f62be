"""How does a GPT write a reply that stands on retrieved ones? Prompt, decoding and judgement, in-graph."""

# B conversations, K retrieved replies

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.export.prompts import checked, first_stop, texts_between
from kerasllm.models import GPTCausalLM
from kerasllm.models.choosing import mean_log_probabilities
from kerasllm.models.generation import begin, proceed
from kerasllm.models.sampling import Sampling
from kerasllm.text import Tokenizer
from kerasllm.text.copying import copy_only
from kerasllm.text.grounded_prompt import GroundedPrompt
from kerasllm.text.named_values import own_words
from kerasllm.text.overlap import shares_in
from kerasllm.text.sizes import written
from kerasllm.text.slots import Slot
from kerasllm.text.values import are_copied, copyable_values


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written, and how it is to be judged; every field a tensor.

    Attributes:
      text: [B] string.
      num_tokens: [B] int32.
      log_probability: [B] float32, of a token on average, by the model alone: what it was kept from costs.
      shares: [B, K] float32, of the text's runs of three tokens that stand in each retrieved reply.
      is_ended: [B] bool, the model came to its end.
      is_copied: [B] bool, every value in it stands in the replies or in the customer's words.
      is_filled: [B] bool, no slot or blank is left open in it.
    """

    text: Any
    num_tokens: Any
    log_probability: Any
    shares: Any
    is_ended: Any
    is_copied: Any
    is_filled: Any


class GroundedGenerator(tf.Module):
    """A GPT that answers from retrieved replies; numbers, codes and addresses can only be copied.

    It tracks the plain variables behind the Keras ones, see ClassifierSignatures.

    Args:
      model: a built causal language model.
      tokenizer: of the model.
      run: of the model: data.chat, grounding, assistant.context_turns, and train.sequence_length for the whole.
      slots: values of theirs have to be copied too.

    Attributes:
      prompt: what the model reads.

    Raises:
      ConfigError: there is too little room for a prompt.
    """

    def __init__(self, model: GPTCausalLM, tokenizer: Tokenizer, run: Run, slots: Sequence[Slot]) -> None:
        super().__init__(name="grounded_generator")
        self._tracked = [variable.value for variable in model.weights]
        self._tracked_text = tokenizer.assets
        self.prompt = prompt = prompt_of(tokenizer, run)
        slots, stop, end = tuple(slots), run.data.chat.stop, tokenizer.special.eos
        most_tokens = run.grounding.max_new_tokens
        stops = np.array([any(one.encode() in piece for one in stop) for piece in written(tokenizer)])
        references = "|".join(rf"\{{{slot.name}\}}|\[{slot.name}\]" for slot in slots) or r"\{\}"

        def ends(token_ids: Any, lengths: Any) -> Any:
            return tf.gather(tf.constant(stops), tf.gather(token_ids, lengths - 1, batch_dims=1))

        # The model is held by the closures alone: as an attribute tf.Module would track it.
        def write(question: Any, context: Any, replies: Any, settings: Mapping[str, Any]) -> Written:
            with tf.control_dependencies(checked(_rules(settings))):
                ids = prompt(replies, context, tf.identity(question))
            rows, lengths = ids.to_tensor(), tf.cast(ids.row_lengths(), tf.int32)
            limits = lengths + tf.minimum(settings["max_new_tokens"], most_tokens)
            sources = tf.concat([replies, question[:, None], own_words(context)[:, None]], axis=1)
            sources = tf.strings.reduce_join(sources, axis=1, separator=" \n ")
            forbids = copy_only(tokenizer, copyable_values(sources).to_tensor(""), lengths)
            columns = tf.maximum(tf.reduce_max(limits), 2)  # 2: of an empty batch too
            sampling = _sampling(settings)
            state = begin(model, rows, lengths, columns, sampling, forbids)
            state = proceed(model, state, limits, sampling, (end,), ends, forbids=forbids)
            text = texts_between(tokenizer, state.token_ids, lengths, state.lengths)
            place = first_stop(text, tf.tile(tf.constant([stop]), [tf.shape(text)[0], 1]))
            newest = tf.gather(state.token_ids, state.lengths - 1, batch_dims=1)
            stopped = tf.strings.substr(text, tf.zeros_like(place), tf.maximum(place, 0))
            text = tf.strings.strip(tf.where(place >= 0, stopped, text))
            return Written(
                text=text,
                num_tokens=state.lengths - lengths,
                log_probability=mean_log_probabilities(model, state.token_ids, lengths, state.lengths),
                shares=shares_in(tokenizer, text, replies),
                is_ended=(newest == end) | (place >= 0),
                is_copied=are_copied(text, sources, slots),
                is_filled=~tf.strings.regex_full_match(text, f"(?s).*(?:{references}).*"),
            )

        self.write = write


def prompt_of(tokenizer: Tokenizer, run: Run) -> GroundedPrompt:
    """What the model of a run reads, in training as well as served.

    Raises:
      ConfigError: there is too little room for it.
    """
    room = run.train.sequence_length - run.grounding.max_new_tokens
    return GroundedPrompt(tokenizer, run.data.chat, run.grounding.replies, run.assistant.context_turns, room)


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    ones = tf.ones_like(settings["temperature"])
    return Sampling(settings["temperature"], tf.zeros_like(settings["max_new_tokens"]), ones, ones, settings["seed"])


def _rules(settings: Mapping[str, Any]) -> dict[str, Any]:
    temperature = settings["temperature"]
    is_number = tf.math.is_finite(temperature) & (temperature >= 0)
    return {
        "max_new_tokens has to be at least 1.": tf.reduce_all(settings["max_new_tokens"] >= 1),
        "temperature has to be 0 (greedy) or more, and a number.": tf.reduce_all(is_number),
    }
