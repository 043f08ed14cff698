import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from datasets import concatenate_datasets
from transformers import AutoModelForAudioClassification, AutoProcessor

from speechprompt_hf.core.errors import ConfigurationError, DatasetError
from speechprompt_hf.data import Splits
from speechprompt_hf.evaluation import evaluate_adapter, predict_files, validate_report
from speechprompt_hf.tasks import task_from_labels
from speechprompt_hf.training import TrainingSettings, run_experiment, train
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_tasks import save_audio_base, unit_task_splits, write_tones

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

SETTINGS = TrainingSettings(num_epochs=3, num_virtual_tokens=2, batch_size=4)


@pytest.fixture(scope="module")
def audio_base(tmp_path_factory):
    return save_audio_base(tmp_path_factory.mktemp("audio_base"))


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    folder = write_tones(tmp_path_factory.mktemp("tones"))
    (folder / "low" / "a_nohash_99.wav").write_bytes(b"no sound")
    return folder


@pytest.fixture(scope="module")
def experiment(audio_base, tones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    options = {"cache_dir": folder / "cache", "progress": False, "settings": SETTINGS}
    extra = ("hidden_states", "encoder_mean")
    return run_experiment(tones, folder / "adapter", base=audio_base, extra_baselines=extra, **options), folder


def test_report_on_disk_is_valid_and_complete(experiment, tones):
    made, folder = experiment
    report = json.loads((folder / "adapter" / "report.json").read_text())
    validate_report(report)
    assert report == json.loads(json.dumps(made.report))
    assert set(report["baselines"]) == {"majority", "tfidf", "hidden_states", "encoder_mean"}
    assert report["baselines"]["majority"]["accuracy"] == 0.5
    # Two pitches: a classifier of mean features that fails on them is broken.
    assert report["baselines"]["encoder_mean"]["accuracy"] == 1.0
    assert report["skips"] == [
        {
            "item": str(tones / "low" / "a_nohash_99.wav"),
            "error": "AudioDecodeError",
            "message": report["skips"][0]["message"],
        }
    ]
    assert report["data"]["speakers_apart"] is True and sum(report["num_rows"].values()) == 12
    assert report["trained_parameters"] == made.result.model.num_trained_parameters()
    assert report["units"]["digest"] == made.result.model.processor.fingerprint["digest"]
    assert len(report["training"]["history"]) == 3 and report["training"]["settings"]["batch_size"] == 4
    assert "speakers that training does not have" in report["warnings"][0]


def test_adapter_folder_opens_as_a_classifier_of_files(experiment, tones, audio_base):
    _, folder = experiment
    adapter = folder / "adapter"
    assert not (adapter / "encoder").exists() and not (adapter / "checkpoints").exists()
    model = AutoModelForAudioClassification.from_pretrained(adapter)
    good = tones / "high" / "a_nohash_0.wav"
    results = list(predict_files(model, [good, tones / "low" / "a_nohash_99.wav", tones / "absent.wav", good]))
    assert [result.error is None for result in results] == [True, False, False, True]
    assert results[0].label in ("high", "low") and 0.5 <= results[0].probability <= 1
    assert "a_nohash_99.wav" in results[1].error and "absent.wav" in results[2].error
    assert results[3] == results[0]


def test_evaluating_the_saved_adapter_repeats_the_accuracy(experiment):
    made, folder = experiment
    report = evaluate_adapter(folder / "adapter", made.splits.test, progress=False)
    for name in ("accuracy", "macro_f1", "accuracy_interval", "per_label"):
        assert report[name] == made.report[name]


def test_evaluation_reads_recordings_and_refuses_unknown_labels(experiment, tones, tmp_path):
    _, folder = experiment
    report = evaluate_adapter(folder / "adapter", tones, cache_dir=folder / "cache", progress=False)
    # What trained the adapter does not measure it.
    assert report["num_rows"] == {"test": experiment[0].report["num_rows"]["test"]}
    assert report["accuracy"] == experiment[0].report["accuracy"]
    assert "only its test part" in report["warnings"][0]
    report = evaluate_adapter(folder / "adapter", experiment[0].splits.train, progress=False)
    assert "train rows of the adapter's own training" in report["warnings"][0]
    write_tones(tmp_path / "others", seed=7)
    (tmp_path / "others" / "low" / "a_nohash_99.wav").write_bytes(b"no sound")
    report = evaluate_adapter(folder / "adapter", tmp_path / "others", progress=False)
    assert report["num_rows"] == {"test": 12} and len(report["skips"]) == 1 and not report["warnings"]
    write_tones(tmp_path / "third", rows_per_label=1)
    (tmp_path / "third" / "low").rename(tmp_path / "third" / "middle")
    with pytest.raises(DatasetError, match="'middle'"):
        evaluate_adapter(folder / "adapter", tmp_path / "third", progress=False)


def test_a_short_or_damaged_file_is_named(experiment, tmp_path):
    _, folder = experiment
    model = AutoModelForAudioClassification.from_pretrained(folder / "adapter")
    soundfile.write(tmp_path / "short.wav", np.zeros(10), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    short, nan = predict_files(model, [tmp_path / "short.wav", tmp_path / "nan.wav"])
    assert "short.wav" in short.error and "nan.wav" in nan.error


def test_confusion_matrix_is_a_picture(experiment):
    _, folder = experiment
    picture = (folder / "adapter" / "confusion.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000


def test_a_second_run_reads_units_and_repeats_the_result(experiment, audio_base, tones, tmp_path, monkeypatch):
    made, folder = experiment
    from speechprompt_hf.processors import SpeechUnitProcessor

    def fail(*arguments, **options):
        raise AssertionError("a recording was encoded again")

    monkeypatch.setattr(SpeechUnitProcessor, "encode_units", fail)
    again = run_experiment(
        tones, tmp_path / "b", base=audio_base, cache_dir=folder / "cache", progress=False, settings=SETTINGS
    )
    for name in ("accuracy", "macro_f1", "data", "trained_parameters", "num_rows"):
        assert again.report[name] == made.report[name]


def test_units_need_no_processor_and_recordings_do(base, tones, tmp_path):
    splits = unit_task_splits(30, 12)
    made = run_experiment(splits, tmp_path / "units", base=base, progress=False, settings=SETTINGS)
    assert made.report["units"] is None and made.report["data"]["source"] == "given rows"
    assert not (tmp_path / "units" / "processor_config.json").exists()
    with pytest.raises(ConfigurationError, match="no processor"):
        run_experiment(tones, tmp_path / "audio", base=base, progress=False)
    with pytest.raises(ConfigurationError, match="needs recordings"):
        run_experiment(
            splits, tmp_path / "c", base=base, progress=False, settings=SETTINGS, extra_baselines=["encoder_mean"]
        )
    with pytest.raises(ConfigurationError, match="'magic'"):
        run_experiment(splits, tmp_path / "d", base=base, extra_baselines=["magic"])


def test_copies_add_training_rows_only(audio_base, tmp_path):
    folder = write_tones(tmp_path / "tones", rows_per_label=5)
    made = run_experiment(
        folder,
        tmp_path / "adapter",
        base=audio_base,
        cache_dir=tmp_path / "cache",
        num_copies=2,
        progress=False,
        settings=TrainingSettings(num_epochs=1, num_virtual_tokens=2),
    )
    rows = made.report["num_rows"]
    assert rows["train"] % 3 == 0 and rows["train"] // 3 + rows["validation"] + rows["test"] == 10


def test_other_rates_and_channels_pass(experiment, tmp_path):
    _, folder = experiment
    model = AutoModelForAudioClassification.from_pretrained(folder / "adapter")
    time = np.arange(4000) / 8000
    wave = 0.3 * np.sin(2 * np.pi * 2000 * time)
    soundfile.write(tmp_path / "stereo.wav", np.stack([wave, wave], 1), 8000)
    soundfile.write(tmp_path / "mono.flac", wave, 8000)
    stereo, mono = predict_files(model, [tmp_path / "stereo.wav", tmp_path / "mono.flac"])
    assert stereo.label == mono.label and abs(stereo.probability - mono.probability) < 1e-6


def test_training_rows_are_known_again_as_units(experiment):
    made, folder = experiment
    trained, chosen, new = ({tuple(row) for row in part["units"]} for _, part in made.splits.items())
    rows = concatenate_datasets([part.remove_columns("content") for _, part in made.splits.items()])
    warnings = evaluate_adapter(folder / "adapter", rows, progress=False)["warnings"]
    numbers = [sum(tuple(row) in known for row in rows["units"]) for known in (trained, chosen)]
    assert new - trained and [warning.split(" rows of the")[0] for warning in warnings] == [
        f"{number} of {len(rows)} rows have the same units as {part}"
        for number, part in zip(numbers, ("train", "validation"), strict=True)
    ]


def test_recordings_that_are_too_long_are_skipped_and_listed(base, tmp_path):
    splits = unit_task_splits(30, 12)
    long = splits.test.map(lambda row, index: {"units": [1, 2] * 30} if index == 3 else {}, with_indices=True)
    made = run_experiment(
        Splits(splits.train, splits.validation, long), tmp_path, base=base, progress=False, settings=SETTINGS
    )
    assert made.report["num_rows"] == {"train": 30, "validation": 12, "test": 11}
    assert [(skip["item"], skip["error"]) for skip in made.report["skips"]] == [("utterance 3", "UnitError")]
    assert made.report["skips"][0]["message"] == "60 units, more than the 38 that the base reads at once"
    report = evaluate_adapter(tmp_path, long, progress=False)
    assert report["num_rows"] == {"test": 11} and report["skips"] == made.report["skips"]
    assert report["accuracy"] == made.report["accuracy"]
    with pytest.raises(DatasetError, match="not one of 1 rows can be used, first 'utterance 3': 60 units"):
        evaluate_adapter(tmp_path, long.select([3]), progress=False)


def test_more_than_half_of_the_rows_left_out_is_said_before_training_and_in_the_reports(base, tmp_path):
    splits = unit_task_splits(30, 12)

    def mostly_long_rows(rows):
        return rows.map(lambda row, index: {"units": [1, 2] * 30} if index % 8 > 2 else {}, with_indices=True)

    mostly_long = splits.map_parts(lambda _, rows: mostly_long_rows(rows))
    options = {"base": base, "progress": False, "settings": SETTINGS}
    sentence = (
        "more than half of the rows, 30 of 54, were left out.*first utterance 3: 60 units, more than the 38 that"
    )
    with pytest.warns(UserWarning, match=sentence):
        made = run_experiment(mostly_long, tmp_path / "long", **options)
    assert re.match(sentence, made.report["warnings"][0])
    measured = evaluate_adapter(tmp_path / "long", mostly_long.test.select(range(3, 12)), progress=False)
    assert measured["warnings"][0].startswith("more than half of the rows, 6 of 9, were left out")
    # A half is not more than it.
    warnings = evaluate_adapter(tmp_path / "long", mostly_long.test, progress=False)["warnings"]
    assert not any("more than half" in warning for warning in warnings)


def test_the_adapter_names_the_place_of_its_encoder(audio_base, tones, tmp_path):
    shutil.copytree(audio_base, tmp_path / "elsewhere")
    processor = AutoProcessor.from_pretrained(tmp_path / "elsewhere")
    splits = unit_task_splits(30, 12)
    splits = splits.map_parts(lambda _, rows: rows.map(lambda row: {"units": [unit % 20 for unit in row["units"]]}))
    options = {"settings": SETTINGS, "progress": False, "processor": processor}
    task = task_from_labels(splits.train["label"])
    train(task, splits, audio_base, output_dir=tmp_path / "adapter", **options)
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    for name, place in (("config.json", audio_base), ("processor_config.json", tmp_path / "elsewhere")):
        assert str(place.resolve()) in (tmp_path / "adapter" / name).read_text()
    processor.base_source = "someone/encoder"
    train(task, splits, audio_base, output_dir=tmp_path / "other", **options)
    assert "someone/encoder" in (tmp_path / "other" / "processor_config.json").read_text()


def test_recordings_that_are_not_read_are_noted_in_an_evaluation(experiment, tmp_path):
    _, folder = experiment
    write_tones(tmp_path / "others", seed=7)
    (tmp_path / "others" / "low" / "telephone.m4a").write_bytes(b"x")
    report = evaluate_adapter(folder / "adapter", tmp_path / "others", progress=False)
    assert len(report["warnings"]) == 1 and "telephone.m4a" in report["warnings"][0]


def test_recordings_of_the_training_in_another_folder_are_counted(experiment, tones, tmp_path):
    made, folder = experiment
    write_tones(tmp_path / "others", seed=7)
    known = [item for item in made.splits.train["item"] if "/low/" in item]
    shutil.copy(known[0], tmp_path / "others" / "low" / "a_nohash_0.wav")
    report = evaluate_adapter(folder / "adapter", tmp_path / "others", progress=False)
    words = "1 of 12 rows have the same recordings as train rows of the adapter's own training"
    assert len(report["warnings"]) == 1 and report["warnings"][0].startswith(words)


def test_a_report_never_lies_beside_another_adapter(base, tmp_path, monkeypatch):
    from speechprompt_hf.training import experiment as module

    splits = unit_task_splits(30, 12)
    options = {"base": base, "progress": False, "settings": SETTINGS}
    run_experiment(splits, tmp_path, **options)
    before = (tmp_path / "report.json").read_bytes()
    old = (tmp_path / "verbalizer.safetensors").read_bytes()

    class StoppedError(Exception):
        pass

    def stop(*arguments, **further):
        raise StoppedError

    with monkeypatch.context() as patch:
        # While it trains, the old adapter is whole.
        patch.setattr("transformers.Trainer.evaluate", stop)
        with pytest.raises(StoppedError):
            run_experiment(splits, tmp_path, seed=1, **options)
    assert (tmp_path / "report.json").read_bytes() == before
    assert (tmp_path / "verbalizer.safetensors").read_bytes() == old
    with monkeypatch.context() as patch:
        patch.setattr(module, "_measure", stop)
        with pytest.raises(StoppedError):
            run_experiment(splits, tmp_path, seed=1, **options)
    assert (tmp_path / "verbalizer.safetensors").read_bytes() != old
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {"report.json", "confusion.png", "trained_rows.json"}
