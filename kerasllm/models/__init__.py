"""Models: BERT and GPT backbones and the tasks that stand on them."""

from kerasllm.models.bert import BertBackbone
from kerasllm.models.factory import build, from_run
from kerasllm.models.generation import fill_masks, sample_continuations
from kerasllm.models.gpt import GPTBackbone
from kerasllm.models.matching import CrossEncoder, TextEncoder
from kerasllm.models.tasks import BertPretrainer, GPTCausalLM, TextClassifier

__all__ = [
    "BertBackbone",
    "BertPretrainer",
    "CrossEncoder",
    "GPTBackbone",
    "GPTCausalLM",
    "TextClassifier",
    "TextEncoder",
    "build",
    "fill_masks",
    "from_run",
    "sample_continuations",
]
