"""What is BERT's backbone? The encoder: every token sees every token of its sequence, and the first one is pooled."""

from typing import Any, ClassVar

import keras

from kerasllm.layers import Pooler
from kerasllm.models.backbone import TransformerBackbone


@keras.saving.register_keras_serializable(package="kerasllm")
class BertBackbone(TransformerBackbone):
    """The encoder of Devlin et al. 2019; options of config.Backbone make it a modern one.

    Shapes:
      inputs["token_ids"]       [B, T]  int32
      inputs["token_type_ids"]  [B, T]  int32, optional: all 0
      inputs["sequence_ids"]    [B, T]  int32, optional: 0 = padding, k = k-th sequence of the row
      inputs["position_ids"]    [B, T]  int32, optional: 0, 1, 2, ...
      returns  {"hidden": [B, T, D], "pooled": [B, D]}
    """

    architecture: ClassVar[str] = "bert"

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables; `input_shape` is not read."""
        super().build(input_shape)
        self.pooler = Pooler(self.options, name="pooler", dtype=self.dtype_policy)
        self.pooler.build((None, self.options.hidden_dim))

    def call(
        self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None, packed: bool = False
    ) -> dict[str, Any]:
        """Runs the encoder.

        Args:
          inputs: see the class; other keys are not read, so that a whole batch can be passed.
          training: dropout is on.
          dropout_seed: int32 [2]; None in training: drawn from Keras's global seed generator.
          packed: rows hold several sequences, which must not see each other; False: a padding mask is enough.
        """
        hidden = self.encode(inputs, training, dropout_seed, packed)
        return {"hidden": hidden, "pooled": self.pooler(hidden[:, 0])}
