"""Is the right next reply found among 10 of the same service? BM25, an encoder as it is, and ours, on sgd_dialogs.

    python -m benchmarks.sgd_next_reply --data DIR/sgd_dialogs/dev_1000.jsonl --init_from "$(scripts/get_minilm)" \
        --workdir runs/sgd

Dialogues are dealt to train, validation and test by a hash of their number. Each customer turn is a query, with the
newest earlier turns after it; the candidates are the system's reply and 9 others, drawn by --candidate_seed, of the
same service and the same part, no two of the same words. The service is that of the customer's intent in the dialogue.
"""

import collections
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from apps.flags import run_program
from benchmarks import rank_table

if TYPE_CHECKING:
    import numpy as np

    from kerasllm.data import QueryPassages

FLAGS = flags.FLAGS
SHARES = {"test": 0.2, "validation": 0.1}
NUM_WRONG = 9


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What a customer said with the earlier turns, the system's reply, and which service it is about."""

    query: str
    reply: str
    service: str
    dialogue: str


def define_flags() -> None:
    """Says where from, where to, and what is measured."""
    rank_table.define_table_flags("configs/customer_service/sgd.yaml", "Dialogues, one JSON object a line.")
    flags.DEFINE_integer("candidate_seed", 1, "Of the 9 wrong replies.")


def main() -> None:
    """Trains what is not trained, prints the table, and writes it as JSON."""
    import numpy as np

    from benchmarks.baselines import bm25
    from kerasllm import decisions, retrieval, training
    from kerasllm.data import split_by_text, text_key

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    exchanges = read_exchanges(FLAGS.data, rank_table.run_of("matching").assistant.context_turns)
    numbers = dict.fromkeys(one.dialogue for one in exchanges)
    parts = {
        part: pairs_of([one for one in exchanges if one.dialogue in set(dialogues)])
        for part, dialogues in split_by_text(numbers, text_key, SHARES).items()
    }
    asked = parts[FLAGS.part]
    start = retrieval.untuned(rank_table.run_of("matching"), FLAGS.init_from)
    by_words = np.take_along_axis(bm25.scores(asked.passages, asked.queries), candidates(asked), axis=1)
    ways = {"BM25": by_words, "encoder as it is": cosines(start, asked)}
    encoder = rank_table.tuned("matching", parts["train"], parts["validation"])
    ways["tuned encoder"] = scores = cosines(encoder, asked)
    ways["tuned encoder and BM25"] = rank_table.with_bm25(scores, by_words, encoder.run.assistant.dense_share)
    if FLAGS.rerank:
        cross = rank_table.tuned("reranking", parts["train"], parts["validation"])
        ways["re-ranker"] = logits = pair_logits(cross, asked)
        ways["tuned encoder and re-ranker"] = logits + scores / encoder.run.matching.temperature
    right = np.zeros(len(asked), np.int64)
    rank_table.report({way: decisions.ranks_of(each, right) for way, each in ways.items()})


def read_exchanges(path: str, context_turns: int) -> list[Exchange]:
    """All customer turns that a system's turn follows."""
    from kerasllm.text.turns import join_turns, query_texts

    dialogues = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    services_of_intent = find_services(dialogues)
    contexts, rows = [], []
    for dialogue in dialogues:
        said: list[tuple[str, str]] = []
        for turn, answer in zip(dialogue["turns"], [*dialogue["turns"][1:], None], strict=True):
            if turn["speaker"] == "USER" and answer is not None and turn["intent"]:
                service = service_of(dialogue["services"], services_of_intent[turn["intent"][0]])
                contexts.append(join_turns(said))
                rows.append((turn["text"], answer["text"], service, dialogue["dialogue_id"]))
            said.append(("customer" if turn["speaker"] == "USER" else "assistant", turn["text"]))
    queries = query_texts([row[0] for row in rows], contexts, context_turns).numpy()
    return [Exchange(query.decode(), *row[1:]) for query, row in zip(queries, rows, strict=True)]


def find_services(dialogues: list[dict[str, Any]]) -> dict[str, set[str]]:
    """The services of each intent, as dialogues about one service show them."""
    services: dict[str, set[str]] = collections.defaultdict(set)
    for dialogue in dialogues:
        if len(dialogue["services"]) == 1:
            for turn in dialogue["turns"]:
                for intent in turn["intent"]:
                    services[intent].add(dialogue["services"][0])
    return services


def service_of(services: list[str], of_intent: set[str]) -> str:
    """The service of a dialogue that has the intent; where none or several have, the first."""
    return next((service for service in services if service in of_intent), services[0])


def pairs_of(exchanges: list[Exchange]) -> "QueryPassages":
    """The pairs of a part, each with the wrong replies as its negatives; services of too few replies are left out."""
    import numpy as np

    from kerasllm.data import join_pairs, normal_form

    replies: dict[str, set[str]] = collections.defaultdict(set)
    for one in exchanges:
        replies[one.service].add(normal_form(one.reply))
    kept = [one for one in exchanges if len(replies[one.service]) > NUM_WRONG]
    pairs = join_pairs([one.query for one in kept], [one.reply for one in kept])
    services = np.array([one.service for one in kept])
    distinct = {service: np.unique(pairs.right[services == service]) for service in np.unique(services)}
    random = np.random.default_rng(FLAGS.candidate_seed)
    wrong = [
        random.choice(distinct[service][distinct[service] != reply], NUM_WRONG, replace=False)
        for service, reply in zip(services, pairs.right, strict=True)
    ]
    return dataclasses.replace(pairs, negatives=np.array(wrong, np.int32))


def candidates(pairs: "QueryPassages") -> "np.ndarray":
    """[N, 10] places of passages, the right one first."""
    import numpy as np

    return np.concatenate([pairs.right[:, None], pairs.negatives], axis=1)


def cosines(trained: Any, pairs: "QueryPassages") -> "np.ndarray":
    """[N, 10] float32."""
    import numpy as np

    from kerasllm.retrieval import embed_texts

    passages = embed_texts(trained, pairs.passages, "passage")[candidates(pairs)]
    return np.einsum("nd,ncd->nc", embed_texts(trained, pairs.queries, "query"), passages)


def pair_logits(cross: Any, pairs: "QueryPassages") -> "np.ndarray":
    """[N, 10] float32."""
    from kerasllm.retrieval import score_pairs

    places = candidates(pairs)
    queries = [query for query in pairs.queries for _ in range(places.shape[1])]
    return score_pairs(cross, queries, [pairs.passages[place] for place in places.ravel()]).reshape(places.shape)


if __name__ == "__main__":
    define_flags()
    run_program(main)
