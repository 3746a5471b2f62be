"""FastAPI around a Hugging Face model in PyTorch, with micro-batching, for an environment of its own.

    python torch_server.py FOLDER

POST /embed with {"text": "..."} answers {"embedding": [...]}: mean pooling, length 1, as the model card computes it.
Requests that wait while a batch runs are the next batch, 32 at most, padded to the longest of them.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import orjson
import torch
import transformers
import uvicorn

MOST_ROWS = 32
LENGTH = 128  # tokens that a sentence is cut to
Waiting = tuple[str, "asyncio.Future[Any]"]


class Embedder:
    """Sentences to embeddings, batch by batch in one thread; PyTorch uses all cores for each."""

    def __init__(self, folder: str) -> None:
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(os.cpu_count() or 1)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._model = transformers.AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue()

    def compute(self, texts: list[str]) -> Any:
        """Embeddings [B, D] as an array."""
        with torch.inference_mode():
            rows = self._tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
            hidden = self._model(**rows).last_hidden_state
            is_real = rows["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * is_real).sum(1) / is_real.sum(1)
            return torch.nn.functional.normalize(pooled, dim=-1).numpy()

    async def embed(self, text: str) -> Any:
        """Waits for a batch with this text in it."""
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((text, outcome))
        return await outcome

    async def run_batches(self) -> None:
        """Runs whatever waits, until it is cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < MOST_ROWS and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            embeddings = await asyncio.to_thread(self.compute, [text for text, _ in batch])
            for (_, outcome), embedding in zip(batch, embeddings, strict=True):
                if not outcome.done():
                    outcome.set_result(embedding)


def main() -> None:
    """Serves until it is ended."""
    embedder = Embedder(sys.argv[1])
    embedder.compute(["a few words"] * MOST_ROWS)

    @asynccontextmanager
    async def run_beside(_: fastapi.FastAPI) -> AsyncIterator[None]:
        batches = asyncio.create_task(embedder.run_batches())
        yield
        batches.cancel()

    app = fastapi.FastAPI(lifespan=run_beside)

    @app.post("/embed")
    async def embed(request: fastapi.Request) -> fastapi.Response:
        embedding = await embedder.embed(orjson.loads(await request.body())["text"])
        body = orjson.dumps({"embedding": embedding}, option=orjson.OPT_SERIALIZE_NUMPY)
        return fastapi.Response(body, media_type="application/json")

    listening = socket.create_server(("127.0.0.1", 0))
    print(f"listens at 127.0.0.1:{listening.getsockname()[1]} now", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=3600)).run(
        sockets=[listening]
    )


if __name__ == "__main__":
    main()
