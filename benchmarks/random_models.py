"""The language model with random weights that timings are taken with."""

from __future__ import annotations

import argparse

import torch

from speechprompt_hf.modeling import GSLMConfig, GSLMForCausalLM


def random_language_model(arguments: argparse.Namespace) -> GSLMForCausalLM:
    """A GSLM of `arguments.width` and `arguments.layers`, the same for the same `arguments.seed`."""
    torch.manual_seed(arguments.seed)
    config = GSLMConfig(
        hidden_size=arguments.width,
        intermediate_size=4 * arguments.width,
        num_hidden_layers=arguments.layers,
        num_attention_heads=max(1, arguments.width // 64),
    )
    return GSLMForCausalLM(config)
