"""Builds the index of replies and documents and exports the assistant; nothing is trained again.

python -m apps.customer_service.index --workdir runs/support --replies replies.tsv --documents docs/ \
    --base_path exports --name assistant
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from absl import flags

from apps.flags import run_program

FLAGS = flags.FLAGS
FORMAT_VERSION = 1  # of assets.extra/export.json
SAMPLES = (  # question, context
    ("Where is my order 20231105123?", ""),
    ("订单20231105123什么时候到？", ""),
    ("20231105123", "customer: please cancel my order\nassistant: Could you give me the order number, please?"),
    ("", ""),
    ("a much longer question that is cut in the end " * 40, "customer: hello\nassistant: hello"),
)


def define_flags() -> None:
    """Says where from and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("replies", None, "Table with a column `reply`; without it, all replies of the dialogues.")
    flags.DEFINE_string("documents", None, "Folder of Markdown or text files, cited where no reply fits.")
    flags.DEFINE_string("base_path", "exports", "Folder of all exported models.")
    flags.DEFINE_string("name", "assistant", "Name of the model; its versions stand in BASE_PATH/NAME/.")


def main() -> None:
    """Embeds replies and passages, chooses the thresholds on the validation part, exports and checks."""
    from apps.customer_service import assembly, generating
    from apps.customer_service.documents import read_documents
    from apps.customer_service.task import KEPT, read_pairs
    from kerasllm.export import GOLDEN_TEXTS, Call, arrays_of, bytes_of, write_export

    workdir = Path(FLAGS.workdir)
    replies = assembly.read_replies(Path(FLAGS.replies)) if FLAGS.replies else None
    passages = read_documents(Path(FLAGS.documents)) if FLAGS.documents else []
    assembled = assembly.assemble(workdir, replies, passages)
    validation = read_pairs(workdir / KEPT, "validation")
    confidence = assembly.fit(assembled, validation)
    signatures: Any = assembled.signatures(confidence)

    import numpy as np
    import tensorflow as tf

    questions, contexts = ([text.encode() for text in column] for column in zip(*SAMPLES, strict=True))
    both = {"question": np.array(questions, object), "context": np.array(contexts, object)}
    replied = arrays_of(signatures.reply(tf.constant(questions), tf.constant(contexts)))
    golden = [text.encode() for text in GOLDEN_TEXTS]
    texts = {"text": np.array(golden, object)}
    calls = [
        Call("serving_default", both, replied),
        Call("reply", both, replied),
        Call("intent", texts, arrays_of(signatures.intent(tf.constant(golden)))),
        Call("embed", texts, arrays_of(signatures.embed(tf.constant(golden)))),
        Call("token_ids", texts, arrays_of(signatures.token_ids(tf.constant(golden)))),
    ]
    written: dict[str, Any] = {}
    if generating.has_generator(workdir):
        assistant = generating.add_generator(assembled, confidence, validation)
        signatures, written = assistant.signatures, {"written_replies": dataclasses.asdict(assistant.confidence)}
        most = assistant.generator.run.grounding.max_new_tokens
        asked = {**both, **arrays_of(generating.greedy_settings(len(SAMPLES), most))}
        answers = signatures.traced()(**{name: tf.constant(column) for name, column in asked.items()})
        calls.append(Call("generate_reply", asked, arrays_of(answers)))
    notes = {
        "format_version": FORMAT_VERSION,
        "name": FLAGS.name,
        "num_replies": assembled.index.num_replies,
        "num_passages": len(passages),
        "confidence": dataclasses.asdict(confidence),
        **written,
        "tokenizer_fingerprint": assembled.intent.tokenizer.fingerprint,
    }
    labels = "".join(f"{label}\n" for label in assembled.intent.run.data.labels)
    files = {"export.json": json.dumps(notes, indent=1, ensure_ascii=False) + "\n", "labels.txt": labels}
    folder = write_export(signatures, calls, bytes_of(signatures.variables), FLAGS.base_path, FLAGS.name, files)
    print(f"{assembled.index.num_replies:,} replies and {len(passages):,} passages of documents")
    print(f"answers from {confidence.answer_from:.3f} on (stated precision {confidence.precision})")
    if written:
        print(f"writes replies of its own from {assistant.confidence.min_score:.3f} on")
    print(f"Exported {workdir} to {folder}")


if __name__ == "__main__":
    define_flags()
    run_program(main)
