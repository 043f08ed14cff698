"""A vocoder trained by accelerate launch on two processes is that of one process."""

import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.fixtures.aligned_speech import write_tones

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from speechprompt_hf.vocoding.aligned_speech import AlignedSpeech
from speechprompt_hf.vocoding.vocoder_settings import VocoderTrainingConfig
from speechprompt_hf.vocoding.vocoder_training import train_vocoder

speech, output, steps = sys.argv[1:]
sizes = {"unit_embed_dim": 8, "hidden_size": 24, "intermediate_size": 32, "num_layers": 1, "num_fine_layers": 1}
config = VocoderTrainingConfig(
    batch_size=4, segment_frames=20, discriminator_frames=8, adversarial_start=2, periods=(2, 3), num_scales=1,
    discriminator_width=0.03, mel_windows=(64,), checkpoint_every=4,
    model={**sizes, "duration_predictor_hidden_size": 8, "duration_predictor_dropout": 0.0},
)
train_vocoder(AlignedSpeech(speech), output, int(steps), config, fingerprint={"digest": "tones"}, num_units=4)
"""


@pytest.mark.timeout(900)
def test_two_processes_of_accelerate_train_the_vocoder_of_one(project_root, tmp_path):
    write_tones(tmp_path / "speech")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]

    def run(output, steps, *start):
        command = [*(start or (sys.executable,)), str(script), str(tmp_path / "speech"), str(tmp_path / output), steps]
        environment = {**os.environ, "PYTHONPATH": str(project_root), "OMP_NUM_THREADS": "1"}
        finished = subprocess.run(
            command, cwd=project_root, env=environment, capture_output=True, text=True, timeout=600
        )
        assert finished.returncode == 0, finished.stderr[-4000:]
        return load_file(tmp_path / output / "model.safetensors")

    alone = run("alone", "8")
    run("both", "4", *launcher, "--mixed_precision", "no", "--dynamo_backend", "no")
    both = run("both", "8", *launcher, "--mixed_precision", "no", "--dynamo_backend", "no")
    for name, value in alone.items():
        # Written in half precision; gradients are averaged in another order.
        assert (value.float() - both[name].float()).abs().max() < 5e-3, name
