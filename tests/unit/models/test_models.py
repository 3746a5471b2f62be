"""Do the models compute what they say, whatever the padding, the packing, the precision and the way they are called?"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import losses, models
from kerasllm.config import make_run
from kerasllm.errors import ConfigError
from tests.checks import assert_close

VOCABULARY = 40
BERT = {"num_layers": 2, "hidden_dim": 16, "num_heads": 4, "intermediate_dim": 24, "max_length": 24}
GPT2 = {
    **BERT,
    "architecture": "gpt",
    "norm_order": "pre",
    "activation": "gelu_tanh",
    "norm_epsilon": 1e-5,
    "num_token_types": 0,
}
LLAMA = {
    **GPT2,
    "activation": "swiglu",
    "norm": "rms_norm",
    "positions": "rotary",
    "num_key_value_heads": 2,
    "use_bias": False,
}
MODERN_BERT = {**LLAMA, "architecture": "bert", "num_token_types": 2}
RECIPES = {
    "bert": ("bert_pretraining", BERT),
    "modern_bert": ("bert_pretraining", MODERN_BERT),
    "gpt2": ("gpt_pretraining", GPT2),
    "llama": ("gpt_pretraining", LLAMA),
    "classifier": ("text_classification", BERT),
}


def make(task, backbone, precision="float32"):
    tree = {
        "objective": {"task": task, "word_matches": backbone.get("positions") == "rotary"},
        "backbone": backbone,
        "data": {"labels": ["bad", "good", "mixed"]},
        "train": {"steps": 1, "precision": precision, "sequence_length": 16},
        "export": {"sequence_length": 16},
    }
    run = make_run(tree)
    keras.utils.set_random_seed(1)  # equal arguments give equal weights
    model = models.from_run(run, VOCABULARY)
    for index, weight in enumerate(model.weights):  # starts of 0.02 would make every claim easy
        noise = np.random.default_rng(index).normal(0, 0.15, weight.shape)
        weight.assign(weight + noise)
    return run, model


def batch_for(task, batch=3, length=12):
    generator = np.random.default_rng(5)
    lengths = np.array([12, 9, 5])[:batch, None]
    result = {
        "token_ids": generator.integers(1, VOCABULARY, (batch, length)),
        "token_type_ids": np.arange(length)[None] >= 4 + np.zeros((batch, 1)),
        "sequence_ids": np.arange(length)[None] < lengths,
        "position_ids": np.tile(np.arange(length), (batch, 1)),
    }
    weights = {}
    if task == "bert_pretraining":
        result |= {
            "masked_positions": [[1, 2, 0], [3, 4, 5], [2, 0, 0]],
            "masked_labels": [[7, 8, 0], [3, 4, 5], [2, 0, 0]],
            "pair_positions": [[0]] * batch,
            "pair_labels": [[0], [1], [1]],
        }
        weights = {"masked_weights": [[1, 1, 0], [1, 1, 1], [1, 0, 0]], "pair_weights": [[1]] * batch}
    elif task == "gpt_pretraining":
        result |= {"labels": generator.integers(1, VOCABULARY, (batch, length))}
        weights = {"label_weights": result["sequence_ids"]}
    else:
        result |= {"label_labels": [0, 1, 2]}
        weights = {"label_weights": [1, 1, 0]}
    tensors = {name: tf.constant(np.asarray(value), tf.int32) for name, value in result.items()}
    return tensors | {name: tf.constant(np.asarray(value), tf.float32) for name, value in weights.items()}


@pytest.fixture(params=RECIPES, scope="module")
def recipe(request):
    task, backbone = RECIPES[request.param]
    return *make(task, backbone), batch_for(task)


def total_loss(run, model, batch, seed=None):
    outputs = model(batch, training=seed is not None, dropout_seed=seed)
    return sum(
        head.weight * head.totals(outputs, batch)["loss"] / head.targets(batch) for head in losses.heads_for(run)
    )


def test_a_model_saved_and_loaded_answers_the_same(recipe, tmp_path):
    _, model, batch = recipe
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert_close(dict(loaded(batch)), {k: v.numpy() for k, v in model(batch).items()}, atol=0)


def test_the_graph_gives_what_eager_gives_with_and_without_dropout(recipe):
    _, model, batch = recipe
    graph = tf.function(lambda batch, seed: model(batch, training=True, dropout_seed=seed))
    seed = tf.constant([1, 2])
    expected = {k: v.numpy() for k, v in model(batch, training=True, dropout_seed=seed).items()}
    assert_close(graph(batch, seed), expected)
    plain = {k: v.numpy() for k, v in model(batch).items()}
    assert_close(tf.function(model)(batch), plain)
    other = graph(batch, tf.constant([1, 3]))
    for name in expected:
        assert np.abs(expected[name] - other[name]).max() > 1e-3, "another seed must drop other places"
        assert np.abs(expected[name] - plain[name]).max() > 1e-3, "training must drop something"


def test_training_without_a_seed_draws_one_from_keras(recipe):
    _, model, batch = recipe
    answers = []
    for start in (3, 3, 4):
        keras.utils.set_random_seed(start)
        answers.append(next(iter(model(batch, training=True).values())).numpy())
    assert_close(answers[0], answers[1], atol=0)
    assert np.abs(answers[0] - answers[2]).max() > 1e-3


def test_gradients_reach_every_variable_and_are_dense(recipe):
    run, model, batch = recipe
    with tf.GradientTape() as tape:
        loss = total_loss(run, model, batch, tf.constant([1, 2]))
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert isinstance(gradient, tf.Tensor), variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_written_gradients_equal_those_of_the_plain_formulas(recipe):
    run, model, batch = recipe
    quiet = {**run.backbone.model_dump(), "dropout": 0.0, "attention_dropout": 0.0}
    _, quiet_model = make(run.objective.task, quiet)
    if run.objective.task == "text_classification":
        quiet_model.heads["label"].dropout = 0.0
    results = []
    for seed in (tf.constant([1, 2]), None):
        with tf.GradientTape() as tape:
            loss = total_loss(run, quiet_model, batch, seed)
        found = tape.gradient(loss, quiet_model.trainable_variables)
        results.append([tf.convert_to_tensor(gradient) for gradient in found])
    for variable, written, derived in zip(quiet_model.trainable_variables, *results, strict=True):
        scale = max(1.0, float(np.abs(derived).max()))
        assert np.abs(written - derived).max() < 2e-5 * scale, variable.path


def test_rematerialized_gradients_are_those_of_the_plain_pass_with_dropout(recipe):
    run, model, batch = recipe

    def gradients(seed):
        with tf.GradientTape() as tape:
            loss = total_loss(run, model, batch, seed)
        return [
            tf.convert_to_tensor(one) for one in tape.gradient(loss, [one.value for one in model.trainable_weights])
        ]

    plain, other = (gradients(tf.constant(seed)) for seed in ([1, 2], [1, 3]))
    assert max(np.abs(one - two).max() for one, two in zip(plain, other, strict=True)) > 1e-2, "dropout must be on"
    model.backbone.rematerialize = True
    try:
        again = tf.function(gradients)(tf.constant([1, 2]))
    finally:
        model.backbone.rematerialize = False
    for one, two in zip(plain, again, strict=True):
        assert_close(two, one.numpy(), atol=1e-6 * max(1.0, float(np.abs(one).max())))


def test_mixed_precision_stays_near_float32(recipe):
    run, model, batch = recipe
    _, mixed = make(run.objective.task, run.backbone.model_dump(), "mixed_bfloat16")
    assert {variable.dtype for variable in mixed.trainable_variables} == {"float32"}
    for name, expected in model(batch).items():
        actual = mixed(batch)[name]
        assert actual.dtype == tf.float32
        # bfloat16 keeps 8 bits: 2^-8 = 0.4 % a rounding, some dozens of them in a row
        assert np.abs(actual - expected).max() < 0.06 * np.abs(expected).max()
    with tf.GradientTape() as tape:
        loss = total_loss(run, mixed, batch, tf.constant([1, 2]))
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, mixed.trainable_variables))


def test_padding_tokens_do_not_change_real_ones(recipe):
    _, model, batch = recipe
    real = batch["sequence_ids"].numpy().astype(bool)
    noise = np.where(real, batch["token_ids"], (batch["token_ids"].numpy() * 7 + 3) % VOCABULARY)
    before = model.backbone(batch)["hidden"].numpy()
    after = model.backbone(batch | {"token_ids": tf.constant(noise, tf.int32)})["hidden"].numpy()
    assert np.abs(before - after)[real].max() < 1e-6
    shorter = {name: value[2:, :5] for name, value in batch.items() if name in ("token_ids", "token_type_ids")}
    assert_close(model.backbone(shorter)["hidden"], before[2:, :5])


def test_packed_sequences_answer_as_they_do_alone(recipe):
    _, model, _ = recipe
    first, second = np.array([5, 6, 7, 8]), np.array([9, 10, 11])
    packed = {
        "token_ids": [[*first, *second, 0]],
        "sequence_ids": [[1, 1, 1, 1, 2, 2, 2, 0]],
        "position_ids": [[0, 1, 2, 3, 0, 1, 2, 0]],
    }
    hidden = model.backbone({k: tf.constant(v) for k, v in packed.items()}, packed=True)["hidden"]
    for sequence, place in ((first, slice(0, 4)), (second, slice(4, 7))):
        alone = model.backbone({"token_ids": tf.constant([sequence], tf.int32)})["hidden"]
        assert_close(hidden[:, place], alone.numpy())


@pytest.mark.parametrize("options", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_the_future_never_changes_the_past(options):
    _, model = make("gpt_pretraining", options)
    ids = np.random.default_rng(0).integers(1, VOCABULARY, (1, 10))
    changed = ids.copy()
    changed[0, 6:] = (changed[0, 6:] + 11) % VOCABULARY
    before, after = (model({"token_ids": tf.constant(x, tf.int32)})["logits"].numpy() for x in (ids, changed))
    assert_close(before[:, :6], after[:, :6], atol=1e-6)
    assert np.abs(before[:, 6:] - after[:, 6:]).max() > 1e-2


def test_packed_pairs_are_scored_at_their_own_first_tokens():
    _, model = make("bert_pretraining", BERT)
    common = {
        "token_ids": tf.constant([[5, 6, 7, 8, 9, 10, 11, 0]]),
        "sequence_ids": tf.constant([[1, 1, 1, 1, 2, 2, 2, 0]]),
        "position_ids": tf.constant([[0, 1, 2, 3, 0, 1, 2, 0]]),
        "masked_positions": tf.constant([[1]]),
        "pair_positions": tf.constant([[0, 4]]),
    }
    scores = model(common)["next_sentence_logits"]
    alone = {"token_ids": tf.constant([[9, 10, 11]]), "masked_positions": tf.constant([[0]])}
    assert_close(scores[:, 1:], model(alone)["next_sentence_logits"].numpy())


def test_words_are_scored_at_the_masked_slots_alone_and_a_layer_has_four_products_of_weights():
    _, model = make("bert_pretraining", BERT)
    batch = batch_for("bert_pretraining")  # 3 rows of 12 tokens and 3 slots
    seed = tf.constant([1, 2])
    graph = tf.function(lambda batch: model(batch, training=True, dropout_seed=seed)).get_concrete_function(batch)
    operations = graph.graph.get_operations()
    scores = [
        one.outputs[0].shape[0] for one in operations if one.type == "MatMul" and one.outputs[0].shape[1] == VOCABULARY
    ]
    assert scores == [9]
    # Two layers of four (query, key and value are one), pooler, pair head, transform and scores.
    assert sum(one.type == "MatMul" for one in operations) == 2 * 4 + 4


def test_all_variables_exist_after_the_constructor():
    backbone = models.GPTBackbone(VOCABULARY, num_layers=1, hidden_dim=16, num_heads=2, max_length=8)
    count = len(backbone.variables)
    # word and position tables; 2 norms x 2; 4 products x 2; the final norm x 2
    assert count == 2 + 4 + 8 + 2
    models.build(backbone)
    assert len(backbone.variables) == count
    assert len({variable.path for variable in backbone.variables}) == count


def test_a_task_on_the_wrong_backbone_is_a_clear_error():
    with pytest.raises(ConfigError, match="stands on a 'gpt' backbone"):
        models.from_run(make_run({"objective": {"task": "gpt_pretraining"}}), VOCABULARY)
    with pytest.raises(ConfigError, match="fewer than two labels"):
        models.from_run(make_run({"objective": {"task": "text_classification"}}), VOCABULARY)


def test_greedy_continuation_is_the_argmax_one_token_at_a_time():
    _, model = make("gpt_pretraining", GPT2)
    prompt = tf.constant([[3, 4, 5], [6, 7, 8]])
    ids = prompt
    for _ in range(4):
        best = tf.argmax(model({"token_ids": ids})["logits"][:, -1], axis=-1, output_type=tf.int32)
        ids = tf.concat([ids, best[:, None]], axis=1)
    assert models.sample_continuations(model, prompt, 4, temperature=0).numpy().tolist() == ids.numpy().tolist()
    one_word = models.sample_continuations(model, prompt, 4, temperature=1.0, top_k=1)
    assert one_word.numpy().tolist() == ids.numpy().tolist()
    drawn = [models.sample_continuations(model, prompt, 4, temperature=2.0, seed=s).numpy().tolist() for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(ValueError, match="do not fit"):
        models.sample_continuations(model, prompt, 22)


def test_filled_masks_are_the_best_words_at_the_slots():
    _, model = make("bert_pretraining", BERT)
    batch = batch_for("bert_pretraining")
    assert_close(models.fill_masks(model, batch), np.argmax(model(batch)["masked_lm_logits"], axis=-1))


def test_a_new_bert_that_knows_the_counts_guesses_masked_words_by_them():
    run = make_run(
        {"objective": {"word_matches": True}, "backbone": BERT, "train": {"steps": 1, "sequence_length": 16}}
        | {"export": {"sequence_length": 16}}
    )
    model = models.from_run(run, VOCABULARY)
    counts = np.arange(VOCABULARY)
    model.start_from_counts(counts, special_ids=[0, 39])
    logits = model(batch_for("bert_pretraining"))["masked_lm_logits"]
    probabilities = tf.nn.softmax(logits).numpy()[0, 0]
    np.testing.assert_allclose(probabilities, (counts + 1) / (counts + 1).sum(), rtol=0.5)  # 0.02 is around, still
    known = model.word_matches.log_probabilities.numpy()
    np.testing.assert_allclose(np.exp(known[1:39]), (counts[1:39] + 1) / (counts + 1).sum(), rtol=1e-5)
    assert np.exp(-0.5 * known[[0, 39]]).max() < 1e-20  # no words: they never match
