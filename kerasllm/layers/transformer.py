"""What is one layer of the stack? Attention and a feed-forward network, each on a residual branch."""

from typing import Any

import keras

from kerasllm.config import Backbone
from kerasllm.layers.activations import activate
from kerasllm.layers.attention import SelfAttention
from kerasllm.layers.dropout import drop
from kerasllm.layers.initializers import initializer_for
from kerasllm.layers.normalization import make_norm
from kerasllm.layers.projection import Projection
from kerasllm.layers.rows import TokenRows

# B batch, T tokens, D hidden width, F intermediate width


@keras.saving.register_keras_serializable(package="kerasllm")
class TransformerBlock(keras.layers.Layer):
    """One layer; every option of config.Backbone that concerns a layer is read here and in SelfAttention.

    Shapes:
      x              [B, T, D]  float; with rows: [N, D]
      penalty        broadcastable to [B, H, T, T] or None, see attention_penalty
      position_ids   [B or 1, T] int32 or None; for rotary positions
      dropout_seed   [2] int32 or None: no dropout
      rows           as in SelfAttention
      returns        of x's shape, in the compute dtype

    Source: post norm: Vaswani et al. 2017; pre norm: Radford et al. 2019.
    """

    def __init__(self, options: Backbone | dict[str, Any], index: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = Backbone.model_validate(options)
        self.index = index
        self.intermediate_dim = self.options.intermediate_dim or 4 * self.options.hidden_dim
        common: dict[str, Any] = {"dtype": self.dtype_policy}
        self.attention = SelfAttention(self.options, self._dropout_index(0), name="attention", **common)
        self.attention_norm = make_norm(self.options.norm, self.options.norm_epsilon, name="attention_norm", **common)
        self.feed_forward_norm = make_norm(
            self.options.norm, self.options.norm_epsilon, name="feed_forward_norm", **common
        )
        common["use_bias"] = self.options.use_bias
        self.expand = Projection(
            self.intermediate_dim * (2 if self.options.activation == "swiglu" else 1),
            initializer=initializer_for(self.options),
            name="expand",
            **common,
        )
        self.contract = Projection(
            self.options.hidden_dim,
            initializer=initializer_for(self.options, is_residual=True),
            name="contract",
            **common,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        for layer in (self.attention, self.attention_norm, self.expand, self.feed_forward_norm):
            layer.build(input_shape)
        self.contract.build((*input_shape[:-1], self.intermediate_dim))

    def call(
        self,
        x: Any,
        penalty: Any = None,
        position_ids: Any = None,
        dropout_seed: Any = None,
        training: bool = False,
        rows: TokenRows | None = None,
    ) -> Any:
        """See the class for shapes."""

        def attend(x: Any) -> Any:
            return self.attention(x, penalty, position_ids, dropout_seed, training=training, rows=rows)

        return self._branches(x, attend, dropout_seed, training)

    def prefill(self, x: Any, penalty: Any, position_ids: Any) -> tuple[Any, tuple[Any, Any]]:
        """As `call` without dropout, and the cache of SelfAttention.prefill."""
        cache = None

        def attend(x: Any) -> Any:
            nonlocal cache
            context, cache = self.attention.prefill(x, penalty, position_ids)
            return context

        x = self._branches(x, attend)
        assert cache is not None
        return x, cache

    def extend(
        self, x: Any, cache: tuple[Any, Any], columns: Any, penalty: Any, one_row: bool = False
    ) -> tuple[Any, tuple[Any, Any]]:
        """One new token a row [B, D]; arguments and the new cache as in SelfAttention.extend."""

        def attend(x: Any) -> Any:
            nonlocal cache
            context, cache = self.attention.extend(x, cache, columns, penalty, one_row)
            return context

        return self._branches(x, attend, one_row=one_row), cache

    def _branches(
        self, x: Any, attend: Any, dropout_seed: Any = None, training: bool = False, one_row: bool = False
    ) -> Any:
        def feed_forward(x: Any) -> Any:
            expanded = activate(self.expand(x, one_row=one_row), self.options.activation, training)
            return self.contract(expanded, one_row=one_row)

        x = self._branch(x, attend, self.attention_norm, dropout_seed, 1, training)
        return self._branch(x, feed_forward, self.feed_forward_norm, dropout_seed, 2, training)

    def _branch(self, x: Any, function: Any, norm: Any, seed: Any, place: int, training: bool) -> Any:
        if self.options.norm_order == "pre":
            return x + drop(
                function(norm(x, training=training)), self.options.dropout, seed, self._dropout_index(place)
            )
        branch = drop(function(x), self.options.dropout, seed, self._dropout_index(place))
        return norm(x + branch, training=training)

    def _dropout_index(self, place: int) -> int:
        return 1 + 3 * self.index + place  # 0 is the embedding's

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "options": self.options.model_dump(), "index": self.index}
