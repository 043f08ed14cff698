"""Converting an encoder needs memory for a tensor at a time, not for a checkpoint."""

import subprocess
import sys

import pytest
import torch

from tests.golden.hubert import hubert_checkpoint

MEASURE = """
import sys, threading
from transformers import Wav2Vec2FeatureExtractor
from speechprompt_hf.convert.encoder import convert_encoder

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

start, done = resident(), threading.Event()
peak = [start]
def watch():
    while not done.wait(0.0005):
        peak[0] = max(peak[0], resident())
watcher = threading.Thread(target=watch)
watcher.start()
if len(sys.argv) > 3:
    convert_encoder(sys.argv[1], sys.argv[2], quantizer=sys.argv[3], layer=12)
else:
    convert_encoder(sys.argv[1], sys.argv[2])
done.set()
watcher.join()
print(peak[0] - start)
"""


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


def growth(*arguments) -> int:
    command = [sys.executable, "-c", MEASURE, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_memory_grows_by_less_than_half_of_a_checkpoint(tmp_path, large_checkpoint):
    assert growth(large_checkpoint, tmp_path / "encoder") < 0.5 * large_checkpoint.stat().st_size


@pytest.mark.slow
def test_a_processor_needs_memory_for_its_encoder_once(tmp_path, large_checkpoint):
    import joblib
    import numpy as np
    from sklearn.cluster import KMeans

    joblib.dump(KMeans(3, n_init=1).fit(np.random.RandomState(0).randn(20, 512)), tmp_path / "km.bin")
    used = growth(large_checkpoint, tmp_path / "processor", tmp_path / "km.bin")
    assert used <= 1.3 * large_checkpoint.stat().st_size
