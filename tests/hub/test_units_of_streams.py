"""A data set of the Hub to units in shards, as it comes: two processes, one commit, no copy of it on the disk."""

import io
import json

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, Features, Value

from tests.fixtures.unit_tasks import save_audio_base

CODE = """
import os, sys
from speechprompt_cli.main import main
command = ["units", "--dataset", "org/speech", "--streaming", "--shard-rows", "3", "--device", "cpu"]
command += ["--base", sys.argv[1], "--output", sys.argv[2]]
for rank in "10":
    os.environ.update(RANK=rank, WORLD_SIZE="2")
    assert main(command) == 0
"""


def parquet(num_rows: int, seed: int) -> bytes:
    """Recordings as the Hub has them: the feature Audio, bytes inside."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(num_rows):
        sound = io.BytesIO()
        soundfile.write(sound, 0.1 * generator.standard_normal(6000), 16000, format="WAV")
        rows.append({"audio": {"bytes": sound.getvalue(), "path": f"{seed}-{number}.wav"}, "label": "ab"[number % 2]})
    features = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("string")})
    file = io.BytesIO()
    Dataset.from_list(rows, features=features).cast_column("audio", Audio(decode=False)).to_parquet(file)
    return file.getvalue()


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_streamed(hub, run_python, tmp_path):
    files = {
        "data/train-00000-of-00002.parquet": parquet(7, 0),
        "data/train-00001-of-00002.parquet": parquet(2, 1),
        "data/validation-00000-of-00001.parquet": parquet(1, 2),
    }
    hub.add_repo("datasets/org/speech", files)
    base, output = save_audio_base(tmp_path / "base"), tmp_path / "units"
    run_python(CODE, str(base), str(output))
    summary = json.loads((output / "units.json").read_text())
    assert {name: part["recordings"] for name, part in summary["parts"].items()} == {"train": 9, "validation": 1}
    assert [shard["name"] for shard in summary["shards"]] == [
        "train-00000-00000.parquet",
        "train-00000-00001.parquet",
        "train-00000-00002.parquet",
        "train-00001-00000.parquet",
        "validation-00000-00000.parquet",
    ]
    written = {path.name: path.read_bytes() for path in output.glob("*.parquet")}
    assert not list(tmp_path.rglob("*.arrow"))
    # The same commit again: nothing to do. Another commit: other rows.
    run_python(CODE, str(base), str(output))
    assert {path.name: path.read_bytes() for path in output.glob("*.parquet")} == written
    hub.write("datasets/org/speech", {"data/train-00001-of-00002.parquet": parquet(3, 1)})
    refused = run_python(CODE, str(base), str(output), check=False)
    assert refused.returncode != 0 and "holds other rows than this run wants" in refused.stderr
    assert "'revision'" in refused.stderr
