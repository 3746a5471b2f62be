"""What is GPT's backbone? The decoder: a token sees itself and what came before."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from kerasllm.layers import attention_penalty
from kerasllm.layers.attention import PENALTY
from kerasllm.layers.projection import dimensions
from kerasllm.models.backbone import TransformerBackbone

# B batch, T tokens, S columns of a cache, D hidden width, G key-value heads, K width of a head

Cache = list[tuple[Any, Any]]  # of each layer its keys and values [B, G, S, K], float32 under every policy


@keras.saving.register_keras_serializable(package="kerasllm")
class GPTBackbone(TransformerBackbone):
    """The decoder of Radford et al. 2019; options of config.Backbone make it Llama-like.

    Shapes:
      inputs["token_ids"]     [B, T]  int32
      inputs["sequence_ids"]  [B, T]  int32, optional: 0 = padding, k = k-th document of the row
      inputs["position_ids"]  [B, T]  int32, optional: 0, 1, 2, ...
      returns  {"hidden": [B, T, D]}
    """

    architecture: ClassVar[str] = "gpt"
    defaults: ClassVar[dict[str, Any]] = {
        "norm_order": "pre",
        "activation": "gelu_tanh",
        "norm_epsilon": 1e-5,
        "num_token_types": 0,
    }

    def call(
        self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None, packed: bool = False
    ) -> dict[str, Any]:
        """Runs the decoder; the arguments are those of BertBackbone."""
        return {"hidden": self.encode(inputs, training, dropout_seed, packed)}

    def prefill(self, token_ids: Any, num_columns: Any) -> tuple[Any, Cache]:
        """Reads prompts and makes their cache.

        Args:
          token_ids: [B, T] int32, each row from its first column on; what follows a shorter one is never looked at.
          num_columns: S, columns that the cache has room for; at least T.

        Returns: hidden states [B, T, D], and keys and values [B, G, S, K] of each layer.
        """
        _, length = dimensions(token_ids)
        position_ids = tf.range(length)[None]
        penalty = attention_penalty(None, length, is_causal=True, packed=False, dtype=self.compute_dtype)
        hidden = self.embedding(token_ids, position_ids=position_ids)
        room = [[0, 0], [0, 0], [0, num_columns - length], [0, 0]]
        caches = []
        for block in self.blocks:
            hidden, (keys, values) = block.prefill(hidden, penalty, position_ids)
            caches.append(tuple(tf.pad(tf.cast(one, tf.float32), room) for one in (keys, values)))
        return self._final(hidden), caches

    def extend(self, token_ids: Any, caches: Cache, columns: Any, one_row: bool = False) -> tuple[Any, Cache]:
        """One more token of each row.

        Args:
          token_ids: [B] int32.
          caches: from `prefill` or `extend`; their memory is written, so they may not be read again.
          columns: [B] int32, how many tokens each row has before this one; less than S, which is not checked.
          one_row: see Projection.

        Returns: the token's hidden state [B, D], and the caches with it.
        """
        is_later = tf.range(tf.shape(caches[0][0])[2]) > columns[:, None]
        penalty = tf.cast(is_later, tf.float32)[:, None, None, None] * PENALTY
        hidden = self.embedding(token_ids, position_ids=columns)
        extended = []
        for block, cache in zip(self.blocks, caches, strict=True):
            hidden, cache = block.extend(hidden, cache, columns, penalty, one_row)
            extended.append(cache)
        return self._final(hidden), extended

    def _final(self, hidden: Any) -> Any:
        return hidden if self.final_norm is None else self.final_norm(hidden)
