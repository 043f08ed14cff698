"""Model cards of adapters that say sequences."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard
from transformers import AutoProcessor

from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.data import SkippedItem
from speechprompt_hf.evaluation.sequence_report import build_sequence_report
from speechprompt_hf.hub.card import write_model_card
from speechprompt_hf.hub.card_sequences import SequenceScore, sequence_scores
from speechprompt_hf.tasks import SequenceTask
from tests.fixtures.cards import LABELS, SECRET, make_report, read
from tests.fixtures.sequences import saying_model
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_tasks import save_tiny_base

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

INTERVAL = {"low": 0.1, "high": 0.2, "confidence": 0.95, "over": "speakers", "method": "percentile bootstrap"}
TASK = SequenceTask("commands", metrics=("wer", "cer", "per", "bleu"))
REPORT = build_sequence_report(
    task=TASK,
    scores={
        "metric": "wer",
        "value": 0.153,
        "interval": INTERVAL,
        "scores": {
            "wer": {"value": 0.153, "lower_is_better": True, **INTERVAL},
            "cer": {"value": 0.0456, "lower_is_better": True},
            "per": {"value": 0.25, "lower_is_better": True},
            "bleu": {"value": 61.28, "lower_is_better": False, "low": 55.0, "high": 66.66},
        },
        "kind": "audio",
        "examples": [{"item": f"{SECRET}/a.wav", "reference": "yes", "said": "no", "score": -0.5}],
    },
    baselines={"most_frequent": {"text": "yes", "counted_on": "training rows", "scores": {"wer": 0.95, "cer": 1.1}}},
    method="prompt",
    trained_parameters=5432,
    seconds=12.3,
    seed=0,
    num_beams=4,
    base=DEFAULT_BASE,
    data={"source": f"{SECRET}/commands", "speakers_apart": True, "fingerprint": {"digest": "d" * 64}},
    num_rows={"train": 64, "validation": 16, "test": 16},
    training={"settings": {"learning_rate": 0.01}, "num_epochs": 7.0},
    skips=[SkippedItem(f"{SECRET}/b.wav", "LabelError", "its text has 300 tokens, more than 256")],
    warnings=[f"2 file(s) in {SECRET}/low left out"],
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "my-recogniser"
    processor = AutoProcessor.from_pretrained(resolve_base(DEFAULT_BASE))
    saying_model(processor=processor).save_pretrained(folder)
    return folder


def test_the_short_card_knows_what_it_is(saved):
    text = read(saved / "README.md")
    card = ModelCard(text)
    assert card.data.pipeline_tag == "automatic-speech-recognition"
    assert "It says texts, of an output vocabulary of 11 tokens." in text and "LABEL_" not in text
    assert "from speechprompt_hf import SpeechPromptForSequenceGeneration" in text


def test_the_card_has_the_scores_of_the_report(saved):
    card = write_model_card(saved, repo_id="org/commands", base_id="org/base", report=REPORT, overwrite=True)
    text, values = read(saved / "README.md"), card.data.to_dict()
    assert values["pipeline_tag"] == "automatic-speech-recognition" and values["library_name"] == "peft"
    assert values["metrics"] == ["wer", "cer", "per", "bleu"]
    assert [(each.metric_type, each.metric_value, each.task_type) for each in card.data.eval_results] == [
        ("wer", 0.153, "automatic-speech-recognition"),
        ("cer", 0.0456, "automatic-speech-recognition"),
        ("per", 0.25, "automatic-speech-recognition"),
        ("bleu", 61.28, "automatic-speech-recognition"),
    ]
    for wanted in (
        "of an output vocabulary of 11 tokens. Task: commands.",
        "**Word error rate 15.3 %** (95 % interval 10.0 % to 20.0 %) on 16 test recordings; data: commands.",
        "|  | this adapter | 95 % interval | the most frequent text |",
        "| word error rate | 15.3 % | 10.0 % to 20.0 % | 95.0 % |",
        "| character error rate | 4.6 % | – | 110.0 % |",
        "| phone error rate | 25.0 % | – | – |",
        "| BLEU | 61.3 | 55.0 to 66.7 | – |",
        "The intervals are over speakers (percentile bootstrap). Said with 4 beams.",
        "5,432 trained parameters, 12 s.",
        "It says something of every recording",
        "speechprompt predict org/commands RECORDING.wav",
        'pipeline("automatic-speech-recognition", model="org/commands")',
        'AutoModelForSpeechSeq2Seq.from_pretrained("org/commands", trust_remote_code=True)',
    ):
        assert wanted in text, wanted
    for absent in ("LABEL_", "## Labels", "AudioClassification", "secret", "alice"):
        assert absent not in text, absent


def test_without_scores_there_are_no_results(saved):
    for report in ({}, None, {"metric": "wer", "value": None}, {"metrics": {"wer": float("nan"), "x": "y"}}):
        card = write_model_card(saved, report=report, overwrite=True)
        assert card.data.eval_results is None and card.data.metrics is None
        assert "## Results" not in read(saved / "README.md")


def test_reports_are_read_leniently():
    assert sequence_scores({"metric": "cer", "metrics": {"wer": 0.5, "cer": 1}}) == {
        "cer": SequenceScore(1.0),
        "wer": SequenceScore(0.5),
    }
    assert sequence_scores({"metric": "wer", "value": 0.5, "interval": {"low": 0.4, "high": 0.6}}) == {
        "wer": SequenceScore(0.5, 0.4, 0.6)
    }
    assert sequence_scores(make_report(LABELS)) == {}
    assert sequence_scores({"metrics": ["wer"], "scores": {"wer": True, "cer": {"low": 1}}}) == {}


def run(code, folder):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_the_snippets_run(saved, tmp_path):
    write_model_card(saved, repo_id="org/commands", overwrite=True)
    wave = np.zeros(16000, dtype="float32")
    soundfile.write(tmp_path / "RECORDING.wav", wave, 16000)
    text = read(saved / "README.md").replace("org/commands", str(saved))
    package, remote = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    # Code that travels is tested on the Hub; a local folder is opened by the registered classes.
    said = run(package, tmp_path)
    assert said and run(f"import speechprompt_hf\n{remote}", tmp_path) == said


@pytest.mark.slow
def test_an_adapter_of_units_has_a_snippet_of_its_own(tmp_path):
    base = save_tiny_base(tmp_path / "base")
    saying_model(str(base)).save_pretrained(tmp_path / "adapter")
    write_model_card(tmp_path / "adapter", repo_id="org/units")
    (code,) = re.findall(r"```python\n(.*?)\n```", read(tmp_path / "adapter" / "README.md"), re.DOTALL)
    said = run(code.replace("org/units", str(tmp_path / "adapter")), tmp_path)
    assert "speechprompt predict org/units UNITS.parquet" in read(tmp_path / "adapter" / "README.md")
    assert said.startswith("[") and len(json.loads(said.replace("'", '"'))) == 2
