"""What does the export of a GPT declare, so that servers can stream it? docs/streaming.md explains each name."""

from typing import Any

STREAMING_FILE = "streaming.json"  # of assets.extra
CARRIED = ("token_ids", "lengths", "prompt_lengths", "is_done", "cache")  # from one chunk to the next
DEFAULTS: dict[str, Any] = {  # one row of each setting that a client of the embedded server leaves out
    "max_new_tokens": 64,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "seed": 0,
    "stop": [""],
}
STREAMING: dict[str, Any] = {
    "format_version": 1,
    "whole": "generate",
    "first": "prefill",
    "next": "decode_chunk",
    "carried": CARRIED,
    "done": "is_done",
    "chunk": "chunk_tokens",
    "chunk_size": 4,
    "defaults": DEFAULTS,
    "logged": ["seed"],
}
