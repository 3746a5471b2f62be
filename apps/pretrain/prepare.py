"""Program: raw text -> vocabulary, shards and manifest. How is a corpus prepared from the command line?

python -m apps.pretrain.prepare --input 'heading:wiki/*.txt' --input speeches/ --output corpora/mixed
"""

from typing import Any, Self

from absl import flags, logging

from apps.flags import define_run_flags, run_from_flags, run_program

_INPUT = flags.DEFINE_multi_string(
    "input",
    [],
    "File, folder or pattern of text, .jsonl, or .gz of either. A prefix doc_marker:, blank_line:, heading: or file: "
    "says where its documents begin, else data.document_boundary does. May be repeated; each is a source of its own.",
)
_HELD_OUT_INPUT = flags.DEFINE_multi_string(
    "held_out_input", [], "As --input; all of it is held out, beside the data.held_out_share of the other input."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; must not exist or be empty.", required=True)
_VOCABULARY = flags.DEFINE_string("vocabulary", None, "vocab.txt or .model to use instead of learning one.")
_NUM_THREADS = flags.DEFINE_integer("num_threads", 0, "Threads that tokenize; 0: as many as cores.", lower_bound=0)


def main() -> None:
    """Prepares the corpus and prints what is in it."""
    run = run_from_flags()
    from kerasllm.data import prepare  # TensorFlow: only once the flags are right

    with _ProgressBars(prepare.input_bytes([*_INPUT.value, *_HELD_OUT_INPUT.value], run)) as bars:
        manifest = prepare.prepare_corpus(
            _INPUT.value,
            _OUTPUT.value,
            run,
            _VOCABULARY.value,
            _NUM_THREADS.value or None,
            bars.update,
            _HELD_OUT_INPUT.value,
        )
    for name, split in manifest["splits"].items():
        counts = ", ".join(f"{split[what]:,} {what}" for what in ("documents", "sentences", "tokens"))
        print(f"{name:>8}: {counts} in {len(split['shards'])} shards")
    if not manifest["splits"]["held_out"]["documents"] and run.data.held_out_share:
        logging.warning("No document was held out: evaluation needs more documents or a larger data.held_out_share.")
    print(f"   words: {manifest['vocabulary']['size']:,}")
    print(f"      in: {_OUTPUT.value}")


class _ProgressBars:
    """One bar for each pass over the input, with MB/s."""

    def __init__(self, total: int) -> None:
        self._total, self._stage = total, ""
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def update(self, stage: str, num_bytes: int) -> None:
        if stage != self._stage:
            from tqdm import tqdm

            self.__exit__()
            self._stage = stage
            self._bar = tqdm(total=self._total, desc=stage, unit="B", unit_scale=True, mininterval=0.5)
        self._bar.update(num_bytes)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


define_run_flags()
if __name__ == "__main__":
    run_program(main)
