"""The operations of a model, worked out by hand, and those of the machine."""

import math

from kerasllm import training
from kerasllm.config import Backbone
from kerasllm.training.flops import count_flops, matrix_product_rate


def test_the_operations_of_a_token_are_those_of_its_matrix_products() -> None:
    flops = count_flops(Backbone(num_layers=3, hidden_dim=8, num_heads=2, max_length=16), vocab_size=10, length=16)
    # Query, key, value 2*8*24 = 384; scores and context 4*16*8 = 512; output 2*8*8 = 128; feed-forward 4*8*32 = 1024.
    assert flops.per_token == 3 * (384 + 512 + 128 + 1024)
    assert flops.per_target == {"masked_lm": 2 * 8 * 8 + 2 * 8 * 10, "causal_lm": 2 * 8 * 10}


def test_fewer_key_value_heads_and_a_gate_are_counted_as_they_are() -> None:
    backbone = Backbone(
        architecture="gpt", num_layers=1, hidden_dim=8, num_heads=4, num_key_value_heads=1, intermediate_dim=20,
        activation="swiglu", max_length=16,
    )  # fmt: skip
    # Heads of width 2: query 8, key 2, value 2, so 2*8*12 = 192; 4*16*8 = 512; 2*8*8 = 128; three of 2*8*20 = 960.
    assert count_flops(backbone, vocab_size=10, length=16).per_token == 192 + 512 + 128 + 960


def test_training_is_three_forward_passes_over_real_tokens_and_real_targets() -> None:
    flops = count_flops(Backbone(num_layers=1, hidden_dim=8, num_heads=2, max_length=16), vocab_size=10, length=16)
    step = {"tokens": 100.0, "slots": 128.0, "masked_lm/targets": 15.0, "next_sentence/targets": 8.0}
    assert flops.of_training(step) == 3 * (100 * 2048 + 15 * 288)


def test_bert_base_needs_six_operations_for_each_weight_and_token_as_the_rule_of_thumb_says() -> None:
    flops = count_flops(Backbone(num_layers=12, hidden_dim=768, num_heads=12), vocab_size=30522, length=512)
    weights = 12 * 12 * 768**2  # of the layers' matrices
    attention = 12 * 12 * 768 * 512  # 12 L H Q T (Chowdhery et al. 2022, appendix B)
    assert flops.of_training({"tokens": 1.0}) == 6 * weights + attention


def test_logical_devices_of_one_cpu_are_not_counted_as_several_machines() -> None:
    one = matrix_product_rate(training.make_strategy("one_device"), "float32")
    two = matrix_product_rate(training.make_strategy("mirrored", 2), "float32")
    assert math.isfinite(one)
    assert one == two > 0
