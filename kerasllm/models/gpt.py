"""What is GPT's backbone? The decoder: a token sees itself and what came before."""

from typing import Any, ClassVar

import keras

from kerasllm.models.backbone import TransformerBackbone


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
