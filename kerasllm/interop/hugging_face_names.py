"""What are our weights called in a Hugging Face folder, and how do they lie there? One map, read in both directions."""

from collections.abc import Mapping

import numpy as np

_THIRDS = ("query", "key", "value")  # one product here, three of BERT's there
_TABLES = {
    "bert": {
        "embeddings.word_embeddings.weight": "embedding/word_table",
        "embeddings.position_embeddings.weight": "embedding/position_table",
        "embeddings.token_type_embeddings.weight": "embedding/token_type_table",
        "cls.predictions.bias": "masked_lm/bias",
    },
    "gpt": {"wte.weight": "embedding/word_table", "wpe.weight": "embedding/position_table"},
}
_PARTS = {
    "bert": {
        "embeddings.LayerNorm": "embedding/embedding_norm",
        "pooler.dense": "pooler/projection",
        "cls.predictions.transform.dense": "masked_lm/transform",
        "cls.predictions.transform.LayerNorm": "masked_lm/norm",
        "cls.seq_relationship": "next_sentence/projection",
    },
    "gpt": {"ln_f": "final_norm"},
}
_LAYER = {"bert": "encoder.layer.{}", "gpt": "h.{}"}
_PARTS_OF_LAYER = {
    "bert": {
        "attention.self.query": "attention/query",
        "attention.self.key": "attention/key",
        "attention.self.value": "attention/value",
        "attention.output.dense": "attention/output",
        "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "expand",
        "output.dense": "contract",
        "output.LayerNorm": "feed_forward_norm",
    },
    "gpt": {
        "attn.c_attn": "attention/query_key_value",
        "attn.c_proj": "attention/output",
        "ln_1": "attention_norm",
        "mlp.c_fc": "expand",
        "mlp.c_proj": "contract",
        "ln_2": "feed_forward_norm",
    },
}


def names(kind: str, num_layers: int, head: str | None = None) -> dict[str, str]:
    """Our names by theirs, which go without the model's prefix; BERT's query, key and value are apart in both.

    Args:
      kind: "bert" or "gpt".
      num_layers: of the backbone.
      head: of a classifier of ours, which is called `classifier` there.
    """
    parts = dict(_PARTS[kind])
    for index in range(num_layers):
        theirs = _LAYER[kind].format(index)
        parts |= {f"{theirs}.{part}": f"block_{index}/{ours}" for part, ours in _PARTS_OF_LAYER[kind].items()}
    if head is not None:
        parts["classifier"] = f"head_{head}/projection"
    leaves = {f"{part}.{leaf}": _leaf(ours, leaf) for part, ours in parts.items() for leaf in ("weight", "bias")}
    return _TABLES[kind] | leaves


def to_ours(values: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """Arrays by our names as they lie there -> as they lie here; a third that misses others is left as it is."""
    arranged = {name: _turned(name, value, kind) for name, value in values.items()}
    for name in values:
        if "/attention/query/" in name and kind == "bert":
            thirds = [name.replace("/query/", f"/{part}/") for part in _THIRDS]
            if all(third in arranged for third in thirds):  # else the joined weight is reported as missing
                joined = np.concatenate([arranged.pop(third) for third in thirds], axis=-1)
                arranged[name.replace("/query/", "/query_key_value/")] = joined
    return arranged


def to_theirs(values: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The way back: arrays by our names as they lie here -> as they lie there, query, key and value apart."""
    apart: dict[str, np.ndarray] = {}
    for name, value in values.items():
        if "/query_key_value/" in name and kind == "bert":
            for part, third in zip(_THIRDS, np.split(value, 3, axis=-1), strict=True):
                apart[name.replace("/query_key_value/", f"/{part}/")] = third
        else:
            apart[name] = value
    return {name: np.ascontiguousarray(_turned(name, value, kind)) for name, value in apart.items()}


def _leaf(part: str, leaf: str) -> str:
    if part.endswith("norm"):
        return f"{part}/{'gamma' if leaf == 'weight' else 'beta'}"
    return f"{part}/{'kernel' if leaf == 'weight' else 'bias'}"


def _turned(name: str, value: np.ndarray, kind: str) -> np.ndarray:
    """Only GPT-2's convolution-like kernels are stored as [input, output]; BERT's are [output, input]."""
    return value.T if kind == "bert" and name.endswith("/kernel") else value
