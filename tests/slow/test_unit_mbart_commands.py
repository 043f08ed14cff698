"""A Unit mBART as the base of the commands: units on disk and recordings, from convert's folder to predictions."""

import json

import pytest

from speechprompt_cli.main import main
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from tests.fixtures.speech_encoders import unit_processor
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_mbarts import tiny_mbart
from tests.fixtures.unit_tasks import unit_task_splits, write_tones

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings(PEFT_WARNING)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Language model, processor and encoder of 20 units, as `convert base` joins them."""
    folder = tmp_path_factory.mktemp("base")
    processor = unit_processor("hubert_two_convolutions")
    tiny_mbart(
        vocab_size=27, num_units=20, fingerprint=processor.fingerprint, max_position_embeddings=200
    ).save_pretrained(folder)
    processor.save_pretrained(folder, save_encoder=True)
    return folder


def run(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_units_on_disk(base, tmp_path, capsys):
    data, adapter = tmp_path / "data", tmp_path / "adapter"
    data.mkdir()
    splits = unit_task_splits(180, 48)
    for name, rows in splits.items():
        fewer = rows.map(lambda row: {"units": [unit % 20 for unit in row["units"]]})
        fewer.to_parquet(str(data / f"{name}.parquet"))
    options = ("--dataset", data, "--base", base, "--output", adapter, "--epochs", 25, "--learning-rate", 0.05)
    report = json.loads(run(capsys, "train", *options, "--json"))
    assert report["accuracy"] > 0.6
    again = json.loads(run(capsys, "evaluate", adapter, "--dataset", data, "--json"))
    assert again["accuracy"] == report["accuracy"]
    model = SpeechPromptForAudioClassification.from_pretrained(adapter)
    assert model.config.base_model_name_or_path == str(base)
    assert type(model.lm).__name__ == "UnitMBartForConditionalGeneration"


def test_recordings(base, tmp_path, capsys):
    data, adapter = write_tones(tmp_path / "tones", rows_per_label=36), tmp_path / "adapter"
    options = ("--dataset", data, "--base", base, "--output", adapter, "--epochs", 60, "--learning-rate", 0.02)
    report = json.loads(run(capsys, "train", *options, "--patience", 60, "--json"))
    assert report["accuracy"] > 0.7
    files = sorted(data.rglob("*.wav"))[:2]
    found = json.loads(run(capsys, "predict", adapter, *files, "--json"))["predictions"]
    assert all(row["label"] in ("high", "low") and 0 < row["probability"] <= 1 for row in found)
