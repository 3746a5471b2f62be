"""The operations of a model, worked out by hand, and those of the machine."""

import math
from collections.abc import Mapping
from typing import Any

from kerasllm import models, training
from kerasllm.config import Backbone
from kerasllm.training.flops import count_flops, matrix_product_rate


def test_the_operations_of_a_token_are_those_of_its_matrix_products() -> None:
    flops = count_flops(Backbone(num_layers=3, hidden_dim=8, num_heads=2, max_length=16), vocab_size=10, length=16)
    # Query, key, value 2*8*24 = 384; scores and context 4*16*8 = 512; output 2*8*8 = 128; feed-forward 4*8*32 = 1024.
    # Backward the same twice: once for the weights (the queries), once for the input (the keys).
    assert flops.per_token == 3 * 3 * (384 + 512 + 128 + 1024)
    assert flops.per_target == {"masked_lm": 3 * (2 * 8 * 8 + 2 * 8 * 10), "causal_lm": 3 * 2 * 8 * 10}


def test_fewer_key_value_heads_and_a_gate_are_counted_as_they_are() -> None:
    backbone = Backbone(
        architecture="gpt", num_layers=1, hidden_dim=8, num_heads=4, num_key_value_heads=1, intermediate_dim=20,
        activation="swiglu", max_length=16,
    )  # fmt: skip
    # Heads of width 2: query 8, key 2, value 2, so 2*8*12 = 192; 4*16*8 = 512; 2*8*8 = 128; three of 2*8*20 = 960.
    assert count_flops(backbone, vocab_size=10, length=16).per_token == 3 * (192 + 512 + 128 + 960)


def test_training_is_three_forward_passes_over_real_tokens_and_real_targets() -> None:
    flops = count_flops(Backbone(num_layers=1, hidden_dim=8, num_heads=2, max_length=16), vocab_size=10, length=16)
    step = {"tokens": 100.0, "slots": 128.0, "masked_lm/targets": 15.0, "next_sentence/targets": 8.0}
    assert flops.of_training(step) == 3 * (100 * 2048 + 15 * 288)


def learned(model: Any, *names: str) -> tuple[float, Mapping[str, float]]:
    """Operations for a token and for a target, where only the variables of these names learn."""
    paths = [one.path for one in model.trainable_variables if any(f"/{name}/" in f"/{one.path}/" for name in names)]
    assert paths
    flops = count_flops(model.backbone.options, vocab_size=10, length=16, learning=paths)
    return flops.per_token, flops.per_target


OPTIONS = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "max_length": 16}


def test_what_does_not_learn_costs_no_gradient_of_its_weights_and_nothing_flows_below_the_lowest_that_learns() -> None:
    bert = models.BertPretrainer(models.BertBackbone(10, **OPTIONS))
    # As above, for a layer: 384 + 512 + 128 + 1024 = 2048 forward. For a masked word 128 + 160, for a next one 160.
    assert learned(bert, "masked_lm") == (2 * 2048, {"masked_lm": 128 * 2 + 160 * 2, "causal_lm": 160})
    # From expand (512) on: its weights, then weights and input of contract (512).
    assert learned(bert, "block_1/expand")[0] == 2 * 2048 + 512 + 512
    assert learned(bert, "block_1/expand", "block_1/contract")[0] == 2 * 2048 + 512 + 2 * 512
    # The whole upper layer: the product of query, key and value has no input to change, scores and context have two.
    assert learned(bert, "block_1")[0] == 2 * 2048 + 384 + 2 * (512 + 128 + 1024)
    # Through a frozen upper layer the gradient comes down all the same.
    upper = 2048 + 384 + 2 * 512 + 128 + 1024
    assert learned(bert, "block_0")[0] == upper + 2048 + 384 + 2 * (512 + 128 + 1024)
    # All but the table of words: the table is no product of the layers', but it is that of the heads.
    everything_else = ("position_table", "block_0", "block_1", "masked_lm")
    assert learned(bert, *everything_else) == (3 * 2 * 2048, {"masked_lm": 128 * 3 + 160 * 2, "causal_lm": 160 * 2})


def test_a_norm_before_its_branch_sends_a_gradient_through_it() -> None:
    bert, gpt = (kind(10, **OPTIONS) for kind in (models.BertBackbone, models.GPTBackbone))
    bert, gpt = models.BertPretrainer(bert), models.GPTCausalLM(gpt)
    # Of a GPT the norm stands before the product, which then has an input to change, but no weights.
    assert learned(gpt, "block_1/attention_norm")[0] == 2 * 2048 + 384 + 2 * 512 + 128 + 1024
    assert learned(bert, "block_1/attention_norm")[0] == 2 * 2048 + 1024
    assert learned(gpt, "final_norm") == (2 * 2048, {"masked_lm": 128 * 2 + 160 * 2, "causal_lm": 160 * 2})


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
