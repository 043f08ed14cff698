"""Converting an encoder needs memory for a tensor at a time, not for a checkpoint."""

import pytest
import torch

from tests.fixtures.memory import growth_of_converter, memory_growth
from tests.golden.hubert import hubert_checkpoint


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The same place in a HuBERT of width 512 instead of 8; heads, groups and convolutions stay as they are."""
    factors = {8: 512, 4: 256, 12: 2048}
    return torch.full([factors.get(size, size) for size in tensor.shape], 0.01)


@pytest.fixture
def large_checkpoint(tmp_path):
    checkpoint = hubert_checkpoint()
    checkpoint.content["model"] = {
        key: wide(value) if not key.startswith(("feature_extractor", "layer_norm")) else value
        for key, value in checkpoint.state.items()
    }
    checkpoint.set(encoder_embed_dim=512, encoder_ffn_embed_dim=2048)
    path = checkpoint.write(tmp_path / "hubert.pt")
    assert path.stat().st_size > 100_000_000
    return path


@pytest.mark.slow
def test_memory_grows_by_less_than_half_of_a_checkpoint(tmp_path, large_checkpoint):
    used = growth_of_converter("encoder", "convert_encoder", large_checkpoint, tmp_path / "encoder")
    assert used < 0.5 * large_checkpoint.stat().st_size


@pytest.mark.slow
def test_a_processor_needs_memory_for_its_encoder_once(tmp_path, large_checkpoint):
    import joblib
    import numpy as np
    from sklearn.cluster import KMeans

    joblib.dump(KMeans(3, n_init=1).fit(np.random.RandomState(0).randn(20, 512)), tmp_path / "km.bin")
    used = memory_growth(
        "import transformers.models.wav2vec2.feature_extraction_wav2vec2\n"
        "from speechprompt_hf.convert.encoder import convert_encoder",
        "convert_encoder(sys.argv[1], sys.argv[2], quantizer=sys.argv[3], layer=12)",
        large_checkpoint,
        tmp_path / "processor",
        tmp_path / "km.bin",
    )
    assert used <= 1.3 * large_checkpoint.stat().st_size
