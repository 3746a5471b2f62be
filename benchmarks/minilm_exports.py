"""Which exports do benchmarks of serving measure? A sentence encoder of a Hugging Face folder, in two precisions."""

from pathlib import Path

EXPORTS = {"float32": False, "bfloat16": True}  # name -> bfloat16_compute


def write_exports(model: str, max_tokens: int, folder: Path) -> dict[str, Path]:
    """Folders of the versions by name, made through a workdir as `serving.export` makes them.

    Args:
      model: Hugging Face folder of a BERT whose mean of the last layer embeds a sentence.
      max_tokens: that a sentence is cut to.
      folder: gets `workdir` and `exports`.
    """
    import kerasllm
    from kerasllm import models
    from kerasllm.export.encoder import write_encoder
    from kerasllm.interop import hugging_face

    run = kerasllm.make_run(
        {
            "objective": {"task": "text_matching", "pooling": "mean"},
            "backbone": hugging_face.backbone_config(model).model_dump(),
            "export": {"sequence_length": max_tokens},
        }
    )
    tokenizer = hugging_face.read_tokenizer(model)
    encoder = models.from_run(run, tokenizer.vocab_size)
    hugging_face.load_into(encoder, model)
    kerasllm.save(folder / "workdir", run, tokenizer, encoder)
    encoder, base = kerasllm.load(folder / "workdir").model, folder / "exports"
    return {
        name: write_encoder(encoder, tokenizer, max_tokens, base, name, bfloat16_compute=is_narrow)
        for name, is_narrow in EXPORTS.items()
    }
