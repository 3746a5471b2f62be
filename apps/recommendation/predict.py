"""Makes a list for each user of a file: items with scores and reasons, as the served model would.

python -m apps.recommendation.predict --workdir runs/films --input histories.tsv --output lists.tsv
"""

from pathlib import Path

from absl import flags

from apps.flags import run_program
from apps.outputs import whole_file

FLAGS = flags.FLAGS
USERS_AT_ONCE = 64


def define_flags() -> None:
    """Says what is read, and where to."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string(
        "input",
        None,
        "Histories: .tsv, .csv or .jsonl of user, history (id:value,id:value, the oldest first) and, if wanted, "
        "blocked (categories). Without it, all users of the log.",
    )
    flags.DEFINE_string("output", None, "File to write: user, place, item, title, score, reason.", required=True)


def main() -> None:
    """Reads, recommends and writes; the output appears when it is whole."""
    import tensorflow as tf

    from kerasllm import recommending
    from kerasllm.data import read_columns

    recommender = recommending.load(FLAGS.workdir)
    if FLAGS.input:
        rows = [
            (row["user"], row["history"], row.get("blocked", ""))
            for _, row in read_columns(FLAGS.input, ["user", "history"])
        ]
    else:
        rows = [(user, recommending.history_text(recommender, user), "") for user in recommender.events.user_names]
    recommend = tf.function(recommending.signatures_of(recommender).recommend, autograph=False, reduce_retracing=True)
    output = Path(FLAGS.output)
    columns = ("items", "titles", "scores", "reasons")
    with whole_file(output) as file:
        print("user", "place", "item", "title", "score", "reason", sep="\t", file=file)
        for start in range(0, len(rows), USERS_AT_ONCE):
            users, histories, blocked = zip(*rows[start : start + USERS_AT_ONCE], strict=True)
            answers = recommend(tf.constant(histories), tf.constant(blocked))
            for user, *places in zip(users, *(answers[column].numpy() for column in columns), strict=True):
                for place, (item, title, score, reason) in enumerate(zip(*places, strict=True), 1):
                    if item:
                        fields = user, place, item.decode(), title.decode(), f"{score:.4f}", reason.decode()
                        print(*fields, sep="\t", file=file)
    print(f"{len(rows):,} users -> {output}")


if __name__ == "__main__":
    define_flags()
    run_program(main)
