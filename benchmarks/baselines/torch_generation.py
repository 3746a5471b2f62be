"""Hugging Face's GPT2LMHeadModel.generate with PyTorch on CPU, for an environment of its own.

    python torch_generation.py '{"vocab_size": 8192, "hidden_dim": 512, ...}'

Greedy, with its key-value cache, in inference mode. Answers each line B of standard input, after new tokens of B rows,
with the seconds that they took.
"""

import json
import sys
import time

import torch
import transformers


def main() -> None:
    """Generates as it is asked to."""
    settings = json.loads(sys.argv[1])
    transformers.logging.set_verbosity_error()
    torch.manual_seed(1)
    torch.set_num_threads(settings["num_threads"])
    prompt, new = settings["prompt_tokens"], settings["new_tokens"]
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=settings["vocab_size"],
            n_embd=settings["hidden_dim"],
            n_layer=settings["num_layers"],
            n_head=settings["num_heads"],
            n_positions=settings["max_length"],
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    print("ready", flush=True)
    for line in sys.stdin:
        rows = torch.randint(5, settings["vocab_size"], (int(line), prompt))
        start = time.perf_counter()
        with torch.inference_mode():
            texts = model.generate(
                rows,
                attention_mask=torch.ones_like(rows),
                do_sample=False,
                use_cache=True,
                max_new_tokens=new,
                pad_token_id=0,
            )
        seconds = time.perf_counter() - start
        assert texts.shape == (len(rows), prompt + new)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
