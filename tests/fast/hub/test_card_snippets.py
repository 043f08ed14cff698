"""The code in model cards runs."""

import ast
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.hub.card import write_model_card
from tests.fixtures.cards import LABELS, read
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_tasks import save_tiny_base

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


@pytest.mark.slow
def test_the_snippets_run(adapter, readme, tmp_path):
    write_model_card(adapter, repo_id="org/tones")
    generator = np.random.default_rng(0)
    soundfile.write(tmp_path / "RECORDING.wav", 0.1 * generator.standard_normal(16000).astype("float32"), 16000)
    text = read(readme).replace("org/tones", str(adapter))
    package, remote = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    (command,) = re.findall(r"```bash\n(.*?)\n```", text, re.DOTALL)
    assert command == f"speechprompt predict {adapter} RECORDING.wav"
    # Code that travels is tested in test_remote_code_doors; a local folder is opened by the registered classes.
    code = "\nprint('===')\n".join([package, remote, f"from speechprompt_cli.main import main\n{main_call(command)}"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "SPEECHPROMPT_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    by_package, by_remote, by_command = done.stdout.split("===\n")
    name, label, probability = by_package.split()
    assert name == "RECORDING.wav" and label in LABELS and 0.5 <= float(probability) <= 1
    assert by_remote.strip() in LABELS
    assert by_command.split("\t")[:2] == ["RECORDING.wav", label]


def main_call(command):
    return f"raise SystemExit(main({command.split()[1:]!r}))"


@pytest.mark.slow
def test_an_adapter_of_units_has_a_snippet_of_its_own(tmp_path):
    base = save_tiny_base(tmp_path / "base")
    SpeechPromptForAudioClassification.from_base(str(base), ["a", "b"]).save_pretrained(tmp_path / "adapter")
    write_model_card(tmp_path / "adapter", repo_id="org/units")
    (code,) = re.findall(r"```python\n(.*?)\n```", read(tmp_path / "adapter" / "README.md"), re.DOTALL)
    code = code.replace("org/units", str(tmp_path / "adapter"))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    labels = ast.literal_eval(done.stdout)
    assert len(labels) == 2 and set(labels) <= {"a", "b"}
