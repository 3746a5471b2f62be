"""What does our own retrieval find, and what does a GPT write from it? Two ways of benchmarks.generated_replies."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from absl import flags

from apps.customer_service.assembly import index_of
from apps.customer_service.formats import Pair
from apps.customer_service.grounding import find_grounds, learned
from apps.customer_service.task import query_passages
from benchmarks.rank_table import refuse_stopped
from kerasllm import fine_tuning, retrieval, text, training
from kerasllm.config import Run, load_run, part_of
from kerasllm.export.grounded import GroundedGenerator
from kerasllm.retrieval import ReplyIndex
from kerasllm.text import Tokenizer
from kerasllm.trained import Trained, load

FLAGS = flags.FLAGS
BATCH = 16  # questions answered together


def found_and_grounded(
    history: Sequence[Pair], judged: Sequence[Pair], asked: Sequence[Pair], generator_run: Run
) -> dict[str, list[str]]:
    """The replies of both ways; what is not trained is trained, in folders of --workdir.

    Args:
      history: training pairs; their replies are the catalogue.
      judged: validation pairs.
      asked: that are answered.
      generator_run: of the GPT that writes without retrieval; the grounded one starts and learns as it did.
    """
    encoder = tuned_encoder(history, judged)
    catalogue = list(dict.fromkeys(pair.reply for pair in history))
    index = index_of(encoder, catalogue, history)
    run = generator_run.model_copy(update={"assistant": encoder.run.assistant})
    tokenizer = text.load_tokenizer(Path(FLAGS.workdir) / "tokenizer")
    generator = tuned_generator(index, history, judged, tokenizer, run)
    retrieved = find_grounds(index, asked, (), run).replies.tolist()
    written = write(generator, asked, retrieved)
    print(f"grounded: {sum(map(bool, written))} of {len(written)} are written, the others are the found ones")
    found = [row[0] for row in retrieved]
    return {"found": found, "grounded": [text or row for text, row in zip(written, found, strict=True)]}


def tuned_encoder(history: Sequence[Pair], judged: Sequence[Pair]) -> Trained:
    """The dual encoder, with negatives that share words with the right reply."""
    run = part_of(load_run(FLAGS.retriever_config), "matching")
    if FLAGS.retriever_init_from is None:
        words = text.train_wordpiece((f"{pair.question} {pair.reply}" for pair in history), run.tokenizer.vocab_size)
        tokenizer: Tokenizer = words
    else:
        run, tokenizer = fine_tuning.starting_point(run, FLAGS.retriever_init_from, None)
    tables = [query_passages(pairs, run.assistant.context_turns) for pairs in (history, judged)]
    if run.matching.hard_negatives:
        tables = [retrieval.mine_by_words(table, tokenizer, run.matching.hard_negatives) for table in tables]
    folder, strategy = Path(FLAGS.workdir) / "matching", training.make_strategy(run.train.strategy, FLAGS.num_devices)
    results = retrieval.tune(run, tokenizer, (tables[0], tables[1]), folder, FLAGS.retriever_init_from, strategy)
    refuse_stopped(results, folder)
    return load(folder)


def tuned_generator(
    index: ReplyIndex, history: Sequence[Pair], judged: Sequence[Pair], tokenizer: Tokenizer, run: Run
) -> Trained:
    """The GPT that learned to write from what the index finds without the row itself."""
    parts = [learned(index, pairs, (), tokenizer, run, history) for pairs in (history, judged)]
    folder, strategy = Path(FLAGS.workdir) / "grounded", training.make_strategy(run.train.strategy, FLAGS.num_devices)
    results = fine_tuning.tune_on_replies(run, tokenizer, (parts[0], parts[1]), folder, FLAGS.init_from, strategy)
    refuse_stopped(results, folder)
    return load(folder)


def write(generator: Trained, asked: Sequence[Pair], retrieved: Sequence[Sequence[str]]) -> list[str]:
    """What it writes, the most probable tokens; "" where it does not stand in the retrieved replies."""
    settings = generator.run.grounding
    strings, numbers = tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int32)
    model = GroundedGenerator(generator.model, generator.tokenizer, generator.run, ())

    @tf.function(input_signature=[strings, strings, tf.TensorSpec([None, None], tf.string), numbers])
    def grounded(question: tf.Tensor, context: tf.Tensor, replies: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
        zeros = tf.zeros_like(most)
        greedy = {"temperature": tf.cast(zeros, tf.float32), "seed": tf.cast(zeros, tf.int64), "max_new_tokens": most}
        said = model.write(question, context, replies, greedy)
        is_cited = tf.reduce_any(said.shares >= settings.cited_from, axis=1)
        return tf.where(is_cited & said.is_ended & said.is_copied, said.text, "")

    texts = list[str]()
    for start in range(0, len(asked), BATCH):
        rows = slice(start, start + BATCH)
        question, context = zip(*((pair.question, pair.context) for pair in asked[rows]), strict=True)
        most = tf.fill([len(question)], settings.max_new_tokens)
        answers = grounded(tf.constant(question), tf.constant(context), tf.constant(retrieved[rows]), most)
        texts += [one.decode() for one in answers.numpy()]
    return texts
