"""Which exports do benchmarks of serving measure? A sentence encoder of a Hugging Face folder, in two precisions."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasllm.models import TextEncoder
    from kerasllm.text import Tokenizer

EXPORTS = {"float32": False, "bfloat16": True}  # name -> bfloat16_compute


def write_exports(model: str, max_tokens: int, folder: Path) -> dict[str, Path]:
    """Folders of the versions by name, which stand in `folder`; see read_encoder for the others."""
    from kerasllm.export.encoder import write_encoder

    encoder, tokenizer = read_encoder(model, max_tokens)
    return {
        name: write_encoder(encoder, tokenizer, max_tokens, folder, name, bfloat16_compute=is_narrow)
        for name, is_narrow in EXPORTS.items()
    }


def read_encoder(model: str, max_tokens: int) -> "tuple[TextEncoder, Tokenizer]":
    """The model as `serving.export` finds it: saved as a workdir, and loaded from there.

    Args:
      model: Hugging Face folder of a BERT whose mean of the last layer embeds a sentence.
      max_tokens: that a sentence is cut to.
    """
    import kerasllm
    from kerasllm import interop, models

    run = kerasllm.make_run(
        {
            "objective": {"task": "text_matching", "pooling": "mean"},
            "backbone": interop.backbone_config(model).model_dump(),
            "export": {"sequence_length": max_tokens},
        }
    )
    tokenizer = interop.read_tokenizer(model)
    encoder = models.from_run(run, tokenizer.vocab_size)
    interop.load_into(encoder, model)
    with tempfile.TemporaryDirectory() as workdir:
        kerasllm.save(workdir, run, tokenizer, encoder)
        return kerasllm.load(workdir).model, tokenizer
