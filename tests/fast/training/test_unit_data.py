"""Training and evaluation on data sets of units: whose units they are, and in which order the base knows them."""

import json
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.core.errors import AdapterError, FingerprintMismatchError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.evaluation import evaluate_adapter, predict_files
from speechprompt_hf.evaluation.prediction import class_probabilities
from speechprompt_hf.processors import SpeechUnitProcessor, UnitTokenizer
from speechprompt_hf.tasks import task_from_labels
from speechprompt_hf.training import TrainingSettings, run_experiment, train
from tests.fixtures.speech_encoders import unit_encoder
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm
from tests.fixtures.unit_tasks import unit_task_splits, write_tones

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

SETTINGS = TrainingSettings(num_epochs=1, num_virtual_tokens=2)
# The order of the base's dictionary is not the numeric one.
ORDER = tuple(str(unit) for unit in reversed(range(20)))


@pytest.fixture(scope="module")
def permuted_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("permuted")
    tokenizer = UnitTokenizer(vocabulary=UnitVocabulary(ORDER))
    processor = SpeechUnitProcessor.from_unit_encoder(unit_encoder("hubert_two_convolutions"), tokenizer)
    tiny_lm(std=0.15, vocab_size=24, fingerprint=processor.fingerprint).save_pretrained(folder)
    processor.save_pretrained(folder, save_encoder=True)
    return folder


@pytest.fixture(scope="module")
def splits():
    return unit_task_splits(30, 12).map_parts(
        lambda name, part: part.map(lambda row: {"units": [unit % 20 for unit in row["units"]]})
    )


@pytest.fixture(scope="module")
def experiment(permuted_base, splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    return run_experiment(splits, folder, base=permuted_base, progress=False, settings=SETTINGS), folder


def test_units_take_the_dictionary_of_the_base(experiment, splits):
    made, folder = experiment
    assert made.result.vocabulary.symbols == ORDER
    report = evaluate_adapter(folder, splits.test, progress=False)
    assert report["accuracy"] == made.report["accuracy"]
    assert "nothing says which encoder" in " ".join(made.report["warnings"])


def test_an_adapter_of_units_takes_recordings(experiment, tmp_path):
    _, folder = experiment
    model = SpeechPromptForAudioClassification.from_pretrained(folder)
    file = next(write_tones(tmp_path, rows_per_label=1).rglob("*.wav"))
    (prediction,) = predict_files(model, [file])
    assert prediction.error is None and prediction.label in model.config.class_names


def test_a_base_with_a_dictionary_alone_is_enough(permuted_base, splits, tmp_path):
    base = tmp_path / "base"
    tiny_lm(std=0.15, vocab_size=24).save_pretrained(base)
    (base / "dict.txt").write_text((permuted_base / "dict.txt").read_text())
    task = task_from_labels(splits.train["label"])
    result = train(task, splits, base, SETTINGS, output_dir=tmp_path / "a", progress=False)
    assert result.vocabulary.symbols == ORDER
    model = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "a")
    assert model.processor is None and model.vocabulary.symbols == ORDER
    # The adapter says which token each unit is, without its base and without a processor.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    rows = [splits.test["units"][0], splits.test["units"][1]]
    inputs = tokenizer(rows, padding=True, return_tensors="pt")
    assert inputs["input_ids"][0, : len(rows[0]) + 2].tolist() == result.vocabulary.input_ids(rows[0])
    expected = class_probabilities(result.model, splits.test.select([0, 1]))
    assert model(**inputs).logits.softmax(-1).detach().numpy() == pytest.approx(expected, abs=1e-5)


def test_a_dictionary_of_another_base_is_refused(permuted_base, splits, tmp_path):
    train(
        task_from_labels(splits.train["label"]), splits, permuted_base, SETTINGS, output_dir=tmp_path, progress=False
    )
    assert UnitVocabulary.from_dict_txt(tmp_path / "dict.txt").symbols == ORDER
    (tmp_path / "dict.txt").write_text("3 1\n1 1\n")
    model = SpeechPromptForAudioClassification.from_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=r"dict.txt of .* has 2 units, its base 20"):
        class_probabilities(model, splits.test)


def test_units_of_another_encoder_are_refused(experiment, permuted_base, splits, tmp_path):
    other = replace(splits, unit_fingerprint={"digest": "0" * 64, "encoder_id": "another"})
    with pytest.raises(FingerprintMismatchError, match="another"):
        run_experiment(other, tmp_path / "a", base=permuted_base, progress=False, settings=SETTINGS)
    _, folder = experiment
    splits.test.to_parquet(str(tmp_path / "test.parquet"))
    evaluate_adapter(folder, tmp_path / "test.parquet", progress=False)
    (tmp_path / "units.json").write_text(json.dumps({"fingerprint": {"digest": "0" * 64, "encoder_id": "another"}}))
    with pytest.raises(FingerprintMismatchError, match="another"):
        evaluate_adapter(folder, tmp_path / "test.parquet", progress=False)
