"""What do BERT and GPT share? An embedding and a stack of blocks, made whole by the constructor."""

import functools
from typing import Any, ClassVar

import keras
import tensorflow as tf

from kerasllm.config import Backbone
from kerasllm.layers import TextEmbedding, TransformerBlock, attention_penalty, draw_seed, make_norm, token_rows
from kerasllm.layers.projection import dimensions

# B batch, T tokens, D hidden width


class TransformerBackbone(keras.Model):
    """Token ids in, hidden states out.

    All variables exist when the constructor returns, so that a strategy's scope, a checkpoint or imported weights
    find them there.

    Args:
      vocab_size: rows of the word table.
      dtype: a Keras dtype policy or its name; None: the global one.
      name: of the model.
      **fields: any field of config.Backbone except `architecture`; what is not given has the defaults of the class.

    Attributes:
      rematerialize: in training only the input of each block is kept for the backward pass, which computes the block
        again (Chen et al. 2016): about a third more products, and memory that hardly grows with the layers. The seed
        of dropout is an argument, so that the same places are dropped again. Of the run, not of the model: not saved.
      skips_padding: outside of training, everything but the attention itself is computed for the tokens alone; what
        stands at padding then has no meaning. Each row has to hold a token. Not for compilers that need fixed shapes;
        not saved either.

    Raises:
      pydantic.ValidationError: a field that config.Backbone does not know, or values that do not fit together.
    """

    architecture: ClassVar[str]
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, vocab_size: int, *, dtype: Any = None, name: str | None = None, **fields: Any) -> None:
        super().__init__(dtype=dtype, name=name)
        self.vocab_size = vocab_size
        self.options = Backbone.model_validate({**self.defaults, **fields, "architecture": self.architecture})
        policy = self.dtype_policy
        self.embedding = TextEmbedding(vocab_size, self.options, name="embedding", dtype=policy)
        self.blocks = [
            TransformerBlock(self.options, index, name=f"block_{index}", dtype=policy)
            for index in range(self.options.num_layers)
        ]
        self.final_norm = None
        if self.options.norm_order == "pre":
            self.final_norm = make_norm(self.options.norm, self.options.norm_epsilon, name="final_norm", dtype=policy)
        self.rematerialize = False
        self.skips_padding = False
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables; `input_shape` is not read, a backbone takes any."""
        hidden = (None, None, self.options.hidden_dim)
        self.embedding.build((None, None))
        for block in self.blocks:
            block.build(hidden)
        if self.final_norm is not None:
            self.final_norm.build(hidden)

    @property
    def word_table(self) -> Any:
        """The word embeddings [V, D] float32, which also score the outputs."""
        return self.embedding.word_table.value

    def encode(self, inputs: dict[str, Any], training: bool, dropout_seed: Any, packed: bool) -> Any:
        """Hidden states [B, T, D] of the last layer; see `call`."""
        token_ids, sequence_ids = inputs["token_ids"], inputs.get("sequence_ids")
        _, length = dimensions(token_ids)
        position_ids = inputs.get("position_ids")
        if position_ids is None:
            position_ids = tf.range(length)[None]
        if not training:
            dropout_seed = None
        elif dropout_seed is None and (self.options.dropout > 0 or self.options.attention_dropout > 0):
            dropout_seed = draw_seed()
        penalty = attention_penalty(sequence_ids, length, self.architecture == "gpt", packed, self.compute_dtype)
        embedded = [token_ids, position_ids, inputs.get("token_type_ids")]
        rows = None
        if self.skips_padding and not training and sequence_ids is not None:
            rows, shape = token_rows(sequence_ids), tf.shape(token_ids)
            embedded = [ids if ids is None else rows.without_padding(tf.broadcast_to(ids, shape)) for ids in embedded]
        hidden = self.embedding(*embedded, dropout_seed=dropout_seed, training=training)
        for block in self.blocks:
            run = functools.partial(
                block.__call__,
                penalty=penalty,
                position_ids=position_ids,
                dropout_seed=dropout_seed,
                training=training,
                rows=rows,
            )
            hidden = (tf.recompute_grad(run) if training and self.rematerialize else run)(hidden)
        if self.final_norm is not None:
            hidden = self.final_norm(hidden, training=training)
        return hidden if rows is None else rows.with_padding(hidden)

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {
            "vocab_size": self.vocab_size,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            **self.options.model_dump(exclude={"architecture"}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "TransformerBackbone":
        """A backbone of the same form with new weights."""
        return cls(**config)
