"""Hugging Face's BertForMaskedLM or GPT2LMHeadModel trained with PyTorch on CPU, for an environment of its own.

    python torch_lm.py '{"task": "bert", "text": "text.txt", "vocabulary": "vocab.txt", ...}'

Text is tokenized, concatenated and cut into rows of equal length, as transformers' examples run_mlm.py and run_clm.py
do unless told otherwise. Answers each line N of standard input, after N steps, with their number of tokens.
"""

import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch.nn.utils import clip_grad_norm_


def main() -> None:
    """Trains step by step, as it is asked to."""
    settings = json.loads(sys.argv[1])
    transformers.logging.set_verbosity_error()
    torch.manual_seed(1)
    tokenizer = transformers.BertTokenizerFast(settings["vocabulary"], do_lower_case=False)
    model = make_model(settings).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], weight_decay=0.01, fused=True)
    batches = make_batches(tokenizer, settings)
    print("ready", flush=True)
    for line in sys.stdin:
        tokens = 0
        for _ in range(int(line)):
            batch = next(batches)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings["precision"] == "mixed_bfloat16"):
                loss = model(**batch).loss
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            tokens += batch["input_ids"].numel()
        assert torch.isfinite(loss)
        print(tokens, flush=True)


def make_model(settings: dict[str, Any]) -> Any:
    """A new model; attention as transformers chooses it (PyTorch's scaled dot product)."""
    width, length = settings["hidden_dim"], settings["length"]
    if settings["task"] == "bert":
        return transformers.BertForMaskedLM(
            transformers.BertConfig(
                vocab_size=settings["vocab_size"],
                hidden_size=width,
                num_hidden_layers=settings["num_layers"],
                num_attention_heads=settings["num_heads"],
                intermediate_size=4 * width,
                max_position_embeddings=length,
            )
        )
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=settings["vocab_size"],
            n_embd=width,
            n_layer=settings["num_layers"],
            n_head=settings["num_heads"],
            n_positions=length,
            use_cache=False,
        )
    )


def make_batches(tokenizer: Any, settings: dict[str, Any]) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of full rows in random order, masked by the library's collator; no end."""
    with open(settings["text"], encoding="utf-8") as file:
        lines = tokenizer([line.rstrip("\n") for line in file])["input_ids"]
    stream = [token for line in lines for token in line]
    length, size = settings["length"], settings["batch"]
    rows = [{"input_ids": stream[start : start + length]} for start in range(0, len(stream) - length + 1, length)]
    is_bert = settings["task"] == "bert"
    collate = transformers.DataCollatorForLanguageModeling(
        tokenizer, mlm=is_bert, mlm_probability=settings["mask_share"] if is_bert else None
    )
    draw = random.Random(1)
    while True:
        draw.shuffle(rows)
        for start in range(0, len(rows) - size + 1, size):
            yield collate(rows[start : start + size])


if __name__ == "__main__":
    main()
