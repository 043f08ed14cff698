"""Converting a Unit mBART needs memory for a tensor at a time."""

from argparse import Namespace

import pytest
import torch

from speechprompt_hf.convert.unit_mbart_keys import UnitMBartPlan, _expected_shapes
from speechprompt_hf.convert.unit_mbart_settings import read_unit_mbart_settings
from tests.fixtures.memory import growth_of_converter

pytestmark = pytest.mark.slow


def test_memory_grows_by_less_than_half_of_a_checkpoint(tmp_path):
    width, inner, layers = 512, 2048, 4
    settings = Namespace(arch="mbart_large", task="multilingual_denoising", langs="en,es", add_lang_token=True)
    for stack in ("encoder", "decoder"):
        sizes = {"embed_dim": width, "ffn_embed_dim": inner, "layers": layers, "attention_heads": 8}
        vars(settings).update({f"{stack}_{name}": value for name, value in sizes.items()})
    plan = UnitMBartPlan(normalizes_before=True, num_rows=1007, max_positions=1024)
    shapes = _expected_shapes(plan, read_unit_mbart_settings({"args": vars(settings)}, "x"))
    state = {key: torch.full(shape, 3.0) for key, shape in shapes.items()}
    state |= {"encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}
    state["decoder.embed_tokens.weight"] = state["encoder.embed_tokens.weight"]
    path = tmp_path / "checkpoint.pt"
    torch.save({"args": settings, "model": state}, path)
    (tmp_path / "dict.txt").write_text("".join(f"{unit} 1\n" for unit in range(1000)))
    size = path.stat().st_size
    assert size > 100_000_000
    growth = growth_of_converter("unit_mbart", "convert_unit_mbart", path, tmp_path / "lm", tmp_path / "dict.txt")
    assert growth < 0.5 * size
