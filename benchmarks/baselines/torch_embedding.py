"""Sentence embeddings of a Hugging Face BERT with PyTorch on CPU, for an environment of its own.

    python torch_embedding.py '{"model": FOLDER, "batches": FILE.json, "num_threads": 2, "max_tokens": 128, ...}'

As sentence-transformers does it: the fast tokenizer pads to the longest text of a batch, the last layer is averaged
over the tokens, and the mean brought to length 1. FILE.json holds lists of texts by name. Answers each line of standard
input, the name of a list of batches, with the seconds that they took.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
import transformers

PRECISIONS = ("float32", "bfloat16 autocast", "bfloat16 weights")


def main() -> None:
    """Embeds as it is asked to, and first of all the texts to compare, into an .npz file."""
    settings = json.loads(sys.argv[1])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(settings["num_threads"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(settings["model"])
    assert tokenizer.is_fast
    model = transformers.BertModel.from_pretrained(settings["model"], add_pooling_layer=False).eval()
    narrow = transformers.BertModel.from_pretrained(settings["model"], add_pooling_layer=False).eval().bfloat16()
    with open(settings["batches"], encoding="utf-8") as file:
        batches = json.load(file)
    compared = batches.pop("compared")
    ids = tokenizer(compared, truncation=True, max_length=settings["max_tokens"])["input_ids"]
    found = [embed(narrow if "weights" in one else model, tokenizer, compared, one, settings) for one in PRECISIONS]
    np.savez(settings["compared"], *found, token_ids=np.concatenate(ids), lengths=[len(row) for row in ids])
    print("ready", flush=True)
    for line in sys.stdin:
        precision, name = line.strip().split("/")
        chosen = narrow if "weights" in precision else model
        start = time.perf_counter()
        for texts in batches[name]:
            embed(chosen, tokenizer, texts, precision, settings)
        print(time.perf_counter() - start, flush=True)


@torch.inference_mode()
def embed(model: Any, tokenizer: Any, texts: list[str], precision: str, settings: dict[str, Any]) -> np.ndarray:
    """Embeddings [texts, width] float32 of length 1."""
    limit = settings["max_tokens"]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in precision):
        hidden = model(**inputs).last_hidden_state
    is_token = inputs["attention_mask"][:, :, None].float()
    mean = (hidden.float() * is_token).sum(1) / is_token.sum(1)
    embeddings: np.ndarray = torch.nn.functional.normalize(mean, dim=1).numpy()
    return embeddings


if __name__ == "__main__":
    main()
