"""Converting needs memory for a tensor at a time, not for a checkpoint."""

from argparse import Namespace

import pytest
import torch

from tests.fixtures.memory import growth_of_converter


@pytest.mark.slow
def test_memory_grows_by_less_than_half_of_a_checkpoint(tmp_path):
    width, inner, layers = 512, 2048, 8
    shapes = {"decoder.embed_tokens.weight": (104, width), "decoder.version": (1,)}
    shapes |= {f"decoder.layer_norm.{kind}": (width,) for kind in ("weight", "bias")}
    for number in range(layers):
        start = f"decoder.layers.{number}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {f"{start}self_attn.{name}.weight": (width, width), f"{start}self_attn.{name}.bias": (width,)}
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{start}{norm}.{kind}": (width,) for kind in ("weight", "bias")}
        shapes |= {f"{start}fc1.weight": (inner, width), f"{start}fc1.bias": (inner,)}
        shapes |= {f"{start}fc2.weight": (width, inner), f"{start}fc2.bias": (width,)}
    settings = Namespace(
        arch="transformer_lm_big",
        decoder_embed_dim=width,
        decoder_ffn_embed_dim=inner,
        decoder_layers=layers,
        decoder_attention_heads=8,
        share_decoder_input_output_embed=True,
    )
    path = tmp_path / "checkpoint.pt"
    torch.save({"args": settings, "model": {key: torch.full(shape, 3.0) for key, shape in shapes.items()}}, path)
    (tmp_path / "dict.txt").write_text("".join(f"{unit} 1\n" for unit in range(100)))
    size = path.stat().st_size
    assert size > 100_000_000
    growth = growth_of_converter("gslm", "convert_gslm", path, tmp_path / "lm", tmp_path / "dict.txt")
    # A quarter was seen; the bar is 1.3 times the checkpoint.
    assert growth < 0.5 * size


@pytest.mark.slow
@pytest.mark.parametrize("is_pickle", [False, True], ids=["safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("rows", [503, 40_000], ids=["layers", "embedding"])
def test_memory_for_a_language_model_of_transformers(tmp_path, is_pickle, rows):
    """Weights mostly in layers, or mostly in an embedding whose units are its last rows."""
    from transformers import AutoModelForCausalLM, OPTConfig

    config = OPTConfig(
        vocab_size=rows,
        hidden_size=512,
        word_embed_proj_dim=512,
        ffn_dim=2048,
        num_hidden_layers=8 if rows < 1000 else 2,
        num_attention_heads=8,
        max_position_embeddings=64,
    )
    config.offset = rows - 500
    model, folder = AutoModelForCausalLM.from_config(config), tmp_path / "stock"
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    if is_pickle:
        path.unlink()
        path = folder / "pytorch_model.bin"
        # With the output head, which is the embedding once more.
        torch.save(model.state_dict(), path)
    size = path.stat().st_size
    assert size > 100_000_000
    growth = growth_of_converter("causal_lm", "wrap_causal_lm", folder, tmp_path / "lm")
    # Pages of a mapped safetensors file count once they were read.
    assert growth <= 1.3 * size
