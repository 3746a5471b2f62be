"""Does every layer keep its promises on shapes, numbers, masks and dropout?"""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import layers
from kerasllm.config import Backbone
from kerasllm.layers.activations import gelu, gelu_tanh, swiglu
from kerasllm.layers.attention import _attend, _attend_for_training
from kerasllm.layers.dropout import drop, keep_mask
from kerasllm.layers.embeddings import lookup
from kerasllm.layers.positions import rotary_angles, rotate, sinusoidal_table
from tests.checks import assert_close, check_layer

OPTIONS = Backbone(num_layers=2, hidden_dim=16, num_heads=4, intermediate_dim=24, max_length=12)
MODERN = OPTIONS.model_copy(
    update={
        "positions": "rotary",
        "norm_order": "pre",
        "norm": "rms_norm",
        "activation": "swiglu",
        "num_key_value_heads": 2,
        "use_bias": False,
    }
)
GPT2 = OPTIONS.model_copy(update={"architecture": "gpt", "norm_order": "pre", "activation": "gelu_tanh"})
SEED = tf.constant([7, 9])


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


POSITIONS = tf.range(6)[None]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("options", [OPTIONS, GPT2, MODERN], ids=["bert", "gpt2", "modern"])
@pytest.mark.parametrize("training", [False, True])
def test_a_block_of_every_recipe_keeps_the_layer_rules(options, policy, training):
    block = layers.TransformerBlock(options, index=1, dtype=policy)
    seed = SEED if training else None
    x = tf.cast(normal(2, 6, 16), block.compute_dtype)
    check_layer(block, x, output_shape=(2, 6, 16), position_ids=POSITIONS, dropout_seed=seed, training=training)


def test_the_embedding_keeps_the_layer_rules():
    ids = tf.constant([[1, 2, 3], [4, 0, 0]])
    for options in (OPTIONS, GPT2, MODERN, OPTIONS.model_copy(update={"positions": "sinusoidal"})):
        layer = layers.TextEmbedding(9, options)
        types = tf.zeros_like(ids)
        check_layer(layer, ids, output_shape=(2, 3, 16), position_ids=tf.range(3)[None], token_type_ids=types)


def test_the_heads_keep_the_layer_rules():
    check_layer(layers.Pooler(OPTIONS), normal(2, 16), output_shape=(2, 16))
    check_layer(layers.NextSentenceHead(), normal(2, 16), output_shape=(2, 2))
    check_layer(layers.ClassificationHead(3), normal(2, 16), output_shape=(2, 3), dropout_seed=SEED)
    slots = tf.constant([[0, 3], [5, 5]])
    check_layer(
        layers.MaskedLMHead(9, OPTIONS),
        normal(2, 6, 16),
        output_shape=(2, 2, 9),
        positions=slots,
        word_table=normal(9, 16),
    )


PARTS = {
    "token_type_ids": tf.constant([[0, 0, 1, 1], [0, 1, 0, 0]]),
    "sequence_ids": tf.constant([[1, 1, 1, 0], [1, 1, 2, 2]]),
    "num_sequences": 2,
}


def test_word_matches_keep_the_layer_rules():
    head = layers.WordMatchHead(9)
    check_layer(head, tf.constant([[5, 6, 5, 5], [5, 6, 7, 8]]), output_shape=(2, 2, 2), **PARTS)


def test_word_matches_tell_the_share_of_each_part_that_the_other_has():
    # Row 0: A = (5, 6), B = (5), padding: shares 1/2 and 1. Row 1: (5 | 6) have nothing in common; its second
    # sequence has no B: no score.
    words = tf.constant([[5, 6, 5, 5], [5, 6, 7, 8]])
    head = layers.WordMatchHead(9)
    head.build((None, None))
    random = np.array([[-5 * 1 - 3 * 0.5 + 2, 0], [2, 0]])
    assert_close(head(words, **PARTS), np.stack([-random, random], axis=-1) / 2, atol=1e-6)

    head.log_probabilities.assign(np.log([1, 1, 1, 1, 1, 0.36, 0.04, 1, 1]))  # 6 counts 5, 5 counts 5 / 3
    random[0, 0] = -5 * 1 - 3 * 0.25 + 2
    assert_close(head(words, **PARTS), np.stack([-random, random], axis=-1) / 2, atol=1e-6)


def test_projection_without_bias_is_the_plain_product():
    layer = layers.Projection(3, use_bias=False)
    x = normal(2, 4, 5)
    check_layer(layer, x, output_shape=(2, 4, 3))
    assert_close(layer(x), np.einsum("abd,de->abe", x, layer.kernel))


@pytest.mark.parametrize("width", [5, 6, 8])
@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_a_projection_of_one_row_is_the_plain_one(width, num_rows):
    layer = layers.Projection(3, initializer="normal")
    x = normal(num_rows, width)
    assert_close(layer(x, one_row=True), layer(x), atol=1e-6)


def test_layer_norm_of_1_3_is_minus_1_and_1():
    # mean 2, variance 1: (1 - 2) / 1 = -1 and (3 - 2) / 1 = 1
    layer = layers.LayerNorm(epsilon=0.0)
    assert_close(layer(tf.constant([[1.0, 3.0]])), [[-1.0, 1.0]])
    assert_close(layer(tf.constant([[1.0, 3.0]]), training=True), [[-1.0, 1.0]])
    # 10 with variance 4: the epsilon counts: (12 - 10) / sqrt(4 + 12) = 0.5
    assert_close(layers.LayerNorm(epsilon=12.0)(tf.constant([[8.0, 12.0]])), [[-0.5, 0.5]])


def test_rms_norm_of_3_4_divides_by_the_root_of_twelve_and_a_half():
    # mean of squares (9 + 16) / 2 = 12.5, root 3.5355: 0.8485 and 1.1314
    assert_close(layers.RMSNorm(epsilon=0.0)(tf.constant([[3.0, 4.0]])), [[0.8485, 1.1314]], atol=1e-4)


def test_gelu_is_the_exact_one():
    # 1 * Phi(1) = 0.841345, -2 * Phi(-2) = -0.045500; the tanh form gives 0.841192
    for fast in (False, True):
        assert_close(gelu(tf.constant([1.0, -2.0, 0.0]), fast), [0.841345, -0.045500, 0.0], atol=2e-6)


def test_swiglu_gates_the_second_half():
    # silu(0) = 0; silu(1) = 0.731059, times 2 = 1.462117
    assert_close(swiglu(tf.constant([[0.0, 1.0, 5.0, 2.0]])), [[0.0, 1.462117]])


def gradients(function, *arguments):
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        result = function(*arguments)
        loss = tf.reduce_sum(result * tf.random.stateless_normal(tf.shape(result), [1, 2]))
    return tape.gradient(loss, arguments)


def test_written_gradients_equal_the_derived_ones():
    x = normal(6, 8)
    for ours, plain in zip(gradients(lambda x: gelu(x, True), x), gradients(gelu, x), strict=True):
        assert_close(ours, plain)

    (ours,), (plain,) = gradients(lambda x: gelu_tanh(x, True), x), gradients(gelu_tanh, x)
    assert_close(ours, plain)
    assert_close(gelu_tanh(x, True), gelu_tanh(x), atol=1e-6)

    norm = layers.LayerNorm(epsilon=1e-3)
    norm(x)
    norm.gamma.assign(normal(8, seed=1))
    results = []
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(norm(x, training=training) * normal(6, 8, seed=2))
        results.append(tape.gradient(loss, [x, norm.gamma.value, norm.beta.value]))
    for written, derived in zip(*results, strict=True):
        assert_close(written, derived, atol=2e-5)

    query, key, value = (normal(2, 3, 5, 4, seed=seed) for seed in (3, 4, 5))
    penalty = tf.where(tf.constant([[[[True, True, True, False, False]]]] * 2), 0.0, 1e9)
    keep = tf.cast(normal(2, 3, 5, 5, seed=6) > -1, tf.float32) * 1.2
    for mask in (None, keep):
        ours = gradients(lambda *qkv, m=mask: _attend_for_training(*qkv, penalty, m), query, key, value)
        plain = gradients(lambda *qkv, m=mask: _attend(*qkv, penalty, m), query, key, value)
        for a, b in zip(ours, plain, strict=True):
            assert_close(a, b)

    ids = tf.constant([[0, 2], [2, 2]])
    (dense,) = gradients(lambda table: lookup(table, ids), normal(4, 3))
    (sparse,) = gradients(lambda table: tf.gather(table, ids), normal(4, 3))
    assert_close(dense, tf.convert_to_tensor(sparse))


def test_dropout_is_a_function_of_seed_and_index():
    x = tf.ones([50, 41])  # 2,050 places
    first = drop(x, 0.25, SEED, 3)
    assert_close(drop(x, 0.25, SEED, 3), first, atol=0)
    assert_close(tf.function(lambda: drop(x, 0.25, SEED, 3))(), first, atol=0)
    for other in (drop(x, 0.25, SEED, 4), drop(x, 0.25, tf.constant([7, 10]), 3)):
        # two independent masks differ at 2 * 0.25 * 0.75 = 0.375 of the places; 2,050 places: standard error 0.011
        assert 0.3 < np.mean(first.numpy() != other.numpy()) < 0.45
    odd = drop(tf.ones([7, 3]), 0.5, SEED, 0)  # 21 places: an odd number of half words
    assert set(np.unique(odd)) == {0.0, 2.0}


def test_xla_drops_the_places_that_tensorflow_drops():
    def mask(seed):
        folded = tf.random.experimental.stateless_fold_in(seed, 3)  # as the training step does for its slices
        return keep_mask([7, 5], 0.3, folded, 4, tf.float32)

    seed = tf.constant([1, 2])
    assert_close(tf.function(mask, jit_compile=True)(seed), mask(seed).numpy(), atol=0)


def test_dropout_keeps_the_mean_and_drops_the_share():
    # 400,000 places: the standard error of the share is 0.0005
    dropped = drop(tf.ones([1000, 400]), 0.1, SEED, 0).numpy()
    assert abs((dropped == 0).mean() - 0.1) < 0.003
    assert abs(dropped.mean() - 1) < 0.003
    # neighbours share 32 random bits and still fall independently: both dropped at 0.1 * 0.1
    assert abs((dropped.reshape(-1, 2) == 0).all(axis=1).mean() - 0.01) < 0.002


def test_dropout_without_seed_or_rate_is_the_identity():
    x = normal(3, 4)
    assert drop(x, 0.5, None, 0) is x
    assert drop(x, 0.0, SEED, 0) is x


def test_attention_looks_at_what_the_penalty_allows():
    # Equal scores: the weights are even over what is allowed. Sequence ids 1 1 2 0.
    ids = tf.constant([[1, 1, 2, 0]])

    def allowed(is_causal, packed):
        return (layers.attention_penalty(ids, 4, is_causal, packed, tf.float32).numpy() == 0)[0, 0].astype(int).tolist()

    assert allowed(False, False) == [[1, 1, 1, 0]]
    assert allowed(False, True) == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert allowed(True, True) == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert layers.attention_penalty(None, 4, False, False, tf.float32) is None


def test_no_mask_is_added_to_a_product():  # they would become one operation that oneDNN has no fast form of
    attention, penalty = layers.SelfAttention(OPTIONS), layers.attention_penalty(None, 6, True, False, tf.float32)
    attend = tf.function(lambda x: attention(x, penalty)).get_concrete_function(normal(2, 6, 16))
    kinds = [(op.type, source.op.type) for op in attend.graph.get_operations() for source in op.inputs]
    assert ("Sub", "BatchMatMulV2") in kinds
    assert not {("Add", "BatchMatMulV2"), ("AddV2", "BatchMatMulV2")} & set(kinds)


def test_shared_key_value_heads_equal_full_heads_with_repeated_weights():
    shared = layers.SelfAttention(OPTIONS.model_copy(update={"num_key_value_heads": 2}))
    full = layers.SelfAttention(OPTIONS)
    x = normal(2, 6, 16)
    shared(x), full(x)
    query, key, value = np.split(shared.query_key_value.kernel.numpy(), [16, 24], axis=1)
    repeated = [np.repeat(part.reshape(16, 2, 4), 2, axis=1).reshape(16, 16) for part in (key, value)]
    full.query_key_value.kernel.assign(np.concatenate([query, *repeated], axis=1))
    full.output_projection.kernel.assign(shared.output_projection.kernel)
    assert_close(full(x), shared(x), atol=1e-6)


def test_rotated_products_depend_on_the_distance_only():
    query, key = normal(1, 1, 1, 8), normal(1, 1, 1, 8, seed=1)

    def score(query_position, key_position):
        turned = [
            rotate(x, *rotary_angles(tf.constant([[position]]), 8))
            for x, position in ((query, query_position), (key, key_position))
        ]
        return float(tf.reduce_sum(turned[0] * turned[1]))

    assert score(3, 1) == pytest.approx(score(9, 7), abs=1e-5)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    # The first pair (x[0], x[4]) turns by 1 radian a position: (1, 0) at position 1 is (cos 1, sin 1).
    unit = tf.constant([[[[1.0, 0, 0, 0, 0, 0, 0, 0]]]])
    turned = rotate(unit, *rotary_angles(tf.constant([[1]]), 8))[0, 0, 0].numpy()
    assert_close(turned[[0, 4]], [math.cos(1), math.sin(1)])


def test_sinusoidal_positions_have_the_paper_s_numbers():
    # Row 1, width 4: sin 1, cos 1, sin 0.01, cos 0.01
    assert_close(sinusoidal_table(2, 4), [[0, 1, 0, 1], [0.841471, 0.540302, 0.0099998, 0.99995]])


def test_bert_truncates_and_gpt2_shrinks_the_ends_of_residual_branches():
    wide = {"hidden_dim": 256, "num_heads": 4, "intermediate_dim": None}
    bert, gpt2 = (layers.TransformerBlock(options.model_copy(update=wide)) for options in (OPTIONS, GPT2))
    bert.build((None, None, 256)), gpt2.build((None, None, 256))
    assert np.abs(bert.expand.kernel.numpy()).max() <= 0.04 + 1e-6  # two standard deviations
    assert gpt2.expand.kernel.numpy().std() == pytest.approx(0.02, rel=0.02)
    assert gpt2.contract.kernel.numpy().std() == pytest.approx(0.01, rel=0.02)  # 0.02 / sqrt(2 * 2 layers)
    assert bert.contract.kernel.numpy().std() == pytest.approx(bert.expand.kernel.numpy().std(), rel=0.02)
