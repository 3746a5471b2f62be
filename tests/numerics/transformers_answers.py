"""What does `transformers` make of a folder? Runs in an environment with torch: FOLDER INPUTS.npz OUTPUTS.npz CLASS.

Inputs are token_ids and attention_mask [B, T] and texts; outputs are every tensor that the model answers with, the ids
of each text as JSON, and the names of the weights that the folder lacked or had too many of.
"""

import json
import sys

import numpy as np
import torch
import transformers


def main(folder: str, inputs_path: str, outputs_path: str, class_name: str) -> None:
    """Loads, computes in inference mode, and writes."""
    inputs = np.load(inputs_path)
    model, info = getattr(transformers, class_name).from_pretrained(folder, output_loading_info=True)
    model.eval()
    with torch.inference_mode():
        answers = model(
            input_ids=torch.tensor(inputs["token_ids"], dtype=torch.long),
            attention_mask=torch.tensor(inputs["attention_mask"], dtype=torch.long),
        )
    outputs = {name: value.numpy() for name, value in answers.items() if isinstance(value, torch.Tensor)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    outputs["text_ids"] = np.array(json.dumps([tokenizer(text)["input_ids"] for text in inputs["texts"].tolist()]))
    outputs["unmatched"] = np.array(json.dumps([*map(str, info["missing_keys"]), *map(str, info["unexpected_keys"])]))
    np.savez(outputs_path, **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
