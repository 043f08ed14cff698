"""Commands end to end on a tiny backbone: results, JSON, exit codes."""

import json

import pytest
from datasets import Dataset

from speechprompt_hf.modeling.base_loading import load_base
from tests.fixtures.speech_encoders import whisper_encoder


def test_units_prints_a_line_a_file_and_goes_on_after_a_bad_one(speechprompt, recordings, base_folder):
    good, bad = recordings / "low" / "0.wav", recordings / "low" / "broken.wav"
    answer = speechprompt("units", bad, good, recordings / "absent.wav", "--base", base_folder)
    assert answer.code == 2
    lines = answer.out.splitlines()
    assert len(lines) == 1
    file, units, durations = lines[0].split("\t")
    assert file == str(good)
    assert len(units.split()) == len(durations.split()) > 0
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert str(bad) in errors[0] and "absent.wav" in errors[1]
    assert "Traceback" not in answer.err


def test_units_of_files_equal_those_of_the_corpus(speechprompt, recordings, base_folder, tmp_path):
    from datasets import Dataset

    answer = speechprompt("units", "--dataset", recordings, "--output", tmp_path, "--base", base_folder, "--json")
    assert answer.code == 0
    assert answer.json["parts"] == {"all": {"recordings": 24, "skipped": 0}}
    rows = Dataset.from_parquet(str(tmp_path / "all.parquet"))
    assert {"units", "durations", "label", "speaker"} <= set(rows.column_names)
    row = next(row for row in rows if row["item"].endswith("high/3.wav"))
    single = speechprompt("units", recordings / "high" / "3.wav", "--base", base_folder, "--json").json
    assert single["recordings"][0]["units"] == row["units"]
    assert single["recordings"][0]["durations"] == row["durations"]
    assert single["fingerprint"] == answer.json["fingerprint"]["digest"]


def test_a_corpus_run_records_what_it_leaves_out(speechprompt, recordings, base_folder, tmp_path):
    import shutil

    folder = tmp_path / "flat"  # no labels, no table: any recordings at any depth
    shutil.copytree(recordings / "low", folder)
    answer = speechprompt("units", "--dataset", folder, "--output", tmp_path / "out", "--base", base_folder)
    assert answer.code == 0
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [entry["error"] for entry in skipped] == ["AudioDecodeError"]
    assert skipped[0]["item"].endswith("broken.wav")


def test_pretrain_makes_a_base_that_knows_its_units(base_folder):
    from speechprompt_hf import GSLMForCausalLM, SpeechUnitProcessor

    model, processor = GSLMForCausalLM.from_pretrained(base_folder), SpeechUnitProcessor.from_pretrained(base_folder)
    assert model.config.fingerprint["digest"] == processor.fingerprint["digest"]
    assert model.config.vocab_size == len(processor.tokenizer.vocabulary) == 16


def test_pretrain_makes_a_unit_mbart_that_train_takes(speechprompt, recordings, base_folder, tmp_path):
    speechprompt("units", "--dataset", recordings, "--base", base_folder, "--output", tmp_path / "units")
    options = ["--architecture", "unit-mbart", "--language", "en", "--steps", 4, "--layers", 1, "--width", 32]
    options += ["--heads", 2, "--tokens-per-step", 800, "--json"]
    answer = speechprompt(
        "pretrain", "--dataset", tmp_path / "units", "--base", base_folder, "--output", tmp_path / "lm", *options
    )
    assert answer.code == 0, answer.err
    base = load_base(tmp_path / "lm")
    assert answer.json["parameters"] == base.num_parameters()
    assert type(base).__name__ == "UnitMBartForConditionalGeneration" and base.config.languages == ["en"]
    answer = speechprompt(
        "train", "--dataset", recordings, "--base", tmp_path / "lm", "--output", tmp_path / "adapter", "--epochs", 1
    )
    assert answer.code == 0, answer.err


def test_pretrain_packs_utterances(speechprompt, tmp_path):
    units = [[number % 10, (number + 1) % 10, (number + 2) % 10] for number in range(30)]
    Dataset.from_dict({"units": units}).to_parquet(str(tmp_path / "corpus" / "train.parquet"))
    options = ["--num-units", 10, "--steps", 2, "--layers", 1, "--width", 32, "--heads", 2, "--packed"]
    answer = speechprompt("pretrain", "--dataset", tmp_path / "corpus", "--output", tmp_path / "lm", *options)
    assert answer.code == 0, answer.err
    assert '"packed"' in (tmp_path / "lm" / "settings.json").read_text()


@pytest.mark.parametrize(
    ("columns", "message"),
    [({}, "no column language"), ({"language": ["en", None]}, "row 1 of the corpus has no language")],
)
def test_pretrain_of_a_unit_mbart_wants_languages(speechprompt, tmp_path, columns, message):
    table = Dataset.from_dict({"units": [[1, 2], [3, 4]], **columns})
    table.to_parquet(str(tmp_path / "corpus" / "train.parquet"))
    options = ["--num-units", 10, "--architecture", "unit-mbart"]
    answer = speechprompt("pretrain", "--dataset", tmp_path / "corpus", "--output", tmp_path / "lm", *options)
    assert answer.code == 2 and message in answer.err and "--language" in answer.err


def test_pretrain_refuses_units_of_another_quantizer(speechprompt, recordings, encoder_folder, base_folder, tmp_path):
    speechprompt("units", "--dataset", recordings, "--output", tmp_path / "units", "--base", base_folder)
    options = ["--encoder", encoder_folder, "--layer", 2, "--clusters", 12]
    assert speechprompt("quantize", "--dataset", recordings, *options, "--output", tmp_path / "other").code == 0
    answer = speechprompt(
        "pretrain", "--dataset", tmp_path / "units", "--base", tmp_path / "other", "--output", tmp_path / "lm"
    )
    assert answer.code == 2
    assert "were made by" in answer.err


def test_quantize_is_seeded(speechprompt, recordings, encoder_folder, tmp_path):
    options = ["--dataset", recordings, "--encoder", encoder_folder, "--layer", 1, "--clusters", 8, "--json"]
    first, again, other = (
        speechprompt("quantize", *options, "--seed", seed, "--output", tmp_path / name).json
        for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert first["fingerprint"]["digest"] == again["fingerprint"]["digest"] != other["fingerprint"]["digest"]


def test_prosody_stands_between_the_units(speechprompt, recordings, encoder_folder, tmp_path):
    """From quantize to an adapter, without another option: a language model of one stream reads both."""
    base, units, whole, adapter = (tmp_path / name for name in ("units_base", "units", "whole", "adapter"))
    options = ["--dataset", recordings, "--encoder", encoder_folder, "--layer", 1, "--clusters", 12, "--prosody", 5]
    made = speechprompt("quantize", *options, "--output", base, "--json")
    assert made.code == 0, made.err
    assert made.json["prosody"] == 5 and made.json["fingerprint"]["units_digest"] != made.json["fingerprint"]["digest"]
    assert speechprompt("units", "--dataset", recordings, "--base", base, "--output", units).code == 0
    options = ["--steps", 10, "--layers", 1, "--width", 32, "--heads", 2, "--tokens-per-step", 400]
    answer = speechprompt("pretrain", "--dataset", units, "--base", base, *options, "--output", whole)
    assert answer.code == 0, answer.err
    options = ["--base", whole, "--output", adapter, "--epochs", 2]
    answer = speechprompt("train", "--dataset", recordings, *options, "--json")
    assert answer.code == 0, answer.err
    assert (adapter / "dict.txt").read_text().split()[::2] == [str(unit) for unit in range(17)]
    answer = speechprompt("predict", adapter, recordings / "low" / "0.wav", "--json")
    assert answer.code == 0 and "error" not in answer.out
    (row,) = speechprompt("units", recordings / "low" / "0.wav", "--base", whole, "--json").json["recordings"]
    assert any(unit >= 12 for unit in row["units"]) and 0 in row["durations"]


def test_quantize_asks_for_the_normalization_that_nothing_says(speechprompt, recordings, encoder_folder, tmp_path):
    import shutil

    shutil.copytree(encoder_folder, tmp_path / "encoder")
    (tmp_path / "encoder" / "preprocessor_config.json").unlink()
    command = ["quantize", "--dataset", recordings, "--encoder", tmp_path / "encoder", "--layer", 1, "--clusters", 8]
    answer = speechprompt(*command, "--output", tmp_path / "a")
    assert answer.code == 2 and "--normalization" in answer.err
    answer = speechprompt(*command, "--output", tmp_path / "a", "--normalization", "none", "--json")
    assert answer.json["fingerprint"]["normalization"] == "none"


def test_quantize_reads_whisper(speechprompt, recordings, tmp_path):
    from transformers import WhisperFeatureExtractor

    whisper_encoder().save_pretrained(tmp_path / "whisper")
    WhisperFeatureExtractor(feature_size=20).save_pretrained(tmp_path / "whisper")
    options = ["--encoder", tmp_path / "whisper", "--layer", 2, "--clusters", 8, "--output", tmp_path / "base"]
    answer = speechprompt("quantize", "--dataset", recordings, *options, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["fingerprint"]["normalization"] == "none"
    assert speechprompt("units", recordings / "low" / "0.wav", "--base", tmp_path / "base").code == 0


def test_quantize_keeps_the_organisation_and_the_revision():
    from speechprompt_cli.commands.quantize import _Source

    assert _Source("organisation/encoder", None, 6, "none").public_id == "organisation/encoder"
    assert _Source("organisation/encoder", "abc", 6, "none").public_id == "organisation/encoder@abc"


def test_units_of_a_table_without_labels_find_its_recordings(speechprompt, recordings, base_folder, tmp_path):
    from datasets import Dataset

    table = recordings / "paths.parquet"
    Dataset.from_dict({"audio": ["low/0.wav", "high/0.wav"]}).to_parquet(str(table))
    command = ["units", "--dataset", table, "--output", tmp_path / "units", "--base", base_folder, "--json"]
    answer = speechprompt(*command)
    table.unlink()
    assert answer.code == 0 and answer.json["parts"]["all"] == {"recordings": 2, "skipped": 0}


def test_train_writes_adapter_and_report(adapter_folder, base_folder):
    report = json.loads((adapter_folder / "report.json").read_text())
    for name in ("accuracy", "macro_f1", "accuracy_interval", "trained_parameters", "seconds", "seed"):
        assert name in report
    assert report["baselines"]["majority"]["accuracy"] == pytest.approx(0.5)
    assert report["baselines"]["tfidf"]["accuracy"] >= 0.5
    assert report["data"]["speakers_apart"] is True
    assert (adapter_folder / "confusion.png").stat().st_size > 1000
    assert sum(path.stat().st_size for path in adapter_folder.rglob("*.safetensors")) < 1_000_000


def test_train_prints_the_accuracy_beside_the_baselines(speechprompt, recordings, base_folder, tmp_path):
    command = ["train", "--dataset", recordings, "--output", tmp_path / "a", "--base", base_folder, "--epochs", 1]
    answer = speechprompt(*command, "--prompt", "input", "--readout", "separator", "--verbalizer", "random")
    assert answer.code == 0, answer.err
    assert "95 % interval" in answer.out
    assert "speakers that training did not hear" in answer.out
    assert "TF-IDF" in answer.out and "most frequent label" in answer.out
    assert f"speechprompt predict {tmp_path / 'a'}" in answer.out
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["prompt_type"], config["readout"], config["verbalizer"]) == ("input", "separator", "random")


def test_predict_prints_label_and_probability(speechprompt, recordings, adapter_folder):
    files = [recordings / "low" / "0.wav", recordings / "low" / "broken.wav", recordings / "high" / "1.wav"]
    answer = speechprompt("predict", adapter_folder, *files)
    assert answer.code == 2
    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert [row[0] for row in rows] == [str(files[0]), str(files[2])]
    assert {row[1] for row in rows} <= {"low", "high"}
    assert all(0.5 <= float(row[2]) <= 1 for row in rows)
    assert len([line for line in answer.err.splitlines() if line.startswith("error: ")]) == 1

    as_json = speechprompt("predict", adapter_folder, *files, "--json")
    assert as_json.code == 2
    assert [("label" in each, "error" in each) for each in as_json.json["predictions"]] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def test_evaluate_agrees_with_predict(speechprompt, recordings, adapter_folder, tmp_path):
    import shutil

    report = speechprompt("evaluate", adapter_folder, "--dataset", recordings, "--json").json
    assert "only its test part" in report["warnings"][0]
    training = json.loads((adapter_folder / "report.json").read_text())
    assert report["num_rows"] == {"test": training["num_rows"]["test"]} and report["accuracy"] == training["accuracy"]
    others = tmp_path / "others"
    shutil.copytree(recordings, others)
    (others / "high" / "11.wav").unlink()
    (others / "metadata.csv").unlink()
    report = speechprompt("evaluate", adapter_folder, "--dataset", others, "--json").json
    files = sorted(others.glob("*/[0-9]*.wav"))
    predictions = speechprompt("predict", adapter_folder, *files, "--json").json["predictions"]
    right = [each["label"] == file.parent.name for each, file in zip(predictions, files, strict=True)]
    assert report["accuracy"] == pytest.approx(sum(right) / len(right))
    assert report["num_rows"] == {"test": 23}


def test_evaluate_refuses_labels_the_adapter_lacks(speechprompt, recordings, adapter_folder, tmp_path):
    import shutil

    shutil.copytree(recordings / "low", tmp_path / "data" / "deep", ignore=shutil.ignore_patterns("broken*"))
    shutil.copytree(recordings / "high", tmp_path / "data" / "high")
    answer = speechprompt("evaluate", adapter_folder, "--dataset", tmp_path / "data")
    assert answer.code == 2
    assert "'deep'" in answer.err


def test_distill_writes_an_encoder_that_quantize_reads(speechprompt, recordings, tmp_path, monkeypatch):
    import numpy as np

    from speechprompt_hf.pretraining import teacher

    class EnergyTeacher:
        """Log energies of a few bands in each frame of 320 samples."""

        hop_samples, window_samples = 320, 480_000

        def __init__(self, folder=None):
            pass

        def encode(self, windows):
            frames = windows.reshape(len(windows), 1500, 320).astype(np.float32) / 32768
            spectrum = np.abs(np.fft.rfft(frames))[..., 1:129].reshape(len(windows), 1500, 16, 8).sum(-1)
            return np.log(spectrum + 1e-3).astype(np.float16)

    monkeypatch.setattr(teacher, "WhisperTeacher", EnergyTeacher)
    monkeypatch.setattr("speechprompt_hf.pretraining.frames.fit_quantizer", _few_clusters)
    command = ["distill", "--dataset", recordings, "--output", tmp_path / "student", "--steps", 2]
    answer = speechprompt(*command, "--frames-per-step", 60, "--json")
    assert answer.code == 0, answer.err
    assert "broken.wav" not in answer.err  # metadata.csv names the recordings, and does not name this one
    options = ["--encoder", answer.json["encoder"], "--layer", 2, "--clusters", 6, "--max-hours", 0.002]
    quantized = speechprompt("quantize", "--dataset", recordings, *options, "--output", tmp_path / "base", "--json")
    assert quantized.code == 0, quantized.err
    assert quantized.json["fingerprint"]["layer"] == 2


def _few_clusters(features, num_clusters=8, **options):
    from speechprompt_hf.pretraining.quantization import fit_quantizer

    return fit_quantizer(features, 8, **options)
