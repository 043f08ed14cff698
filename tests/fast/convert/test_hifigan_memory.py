"""Converting a vocoder needs memory for a few tensors, not for a checkpoint."""

import json

import pytest
import torch

from tests.fixtures.memory import growth_of_converter


@pytest.mark.slow
def test_memory_grows_by_less_than_a_checkpoint(tmp_path):
    width, sizes = 512, (3, 7, 11)
    settings = {
        "num_embeddings": 100,
        "embedding_dim": 128,
        "upsample_rates": [5],
        "upsample_kernel_sizes": [11],
        "upsample_initial_channel": 2 * width,
        "resblock_kernel_sizes": sizes,
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "sampling_rate": 16000,
    }
    shapes = {"conv_pre": (2 * width, 128, 7), "ups.0": (2 * width, width, 11), "conv_post": (1, width, 7)}
    for block, size in enumerate(sizes):
        for index in range(3):
            shapes |= {f"resblocks.{block}.convs{number}.{index}": (width, width, size) for number in (1, 2)}
    state = {"dict.weight": torch.zeros(100, 128)}
    for name, shape in shapes.items():
        state |= {f"{name}.weight_v": torch.full(shape, 0.1), f"{name}.weight_g": torch.ones(shape[0], 1, 1)}
        state[f"{name}.bias"] = torch.zeros(shape[1] if name == "ups.0" else shape[0])
    paths = tmp_path / "g_00500000", tmp_path / "vocoder", tmp_path / "config.json"
    torch.save({"generator": state}, paths[0])
    paths[2].write_text(json.dumps(settings))
    size = paths[0].stat().st_size
    assert size > 100_000_000
    growth = growth_of_converter("hifigan", "convert_hifigan", *paths)
    print(f"{growth / size:.2f} times the checkpoint of {size} bytes")
    assert growth < 1.3 * size
