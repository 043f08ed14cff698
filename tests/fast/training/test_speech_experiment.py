"""Training of models that answer with speech, from recordings or units, on both kinds of bases."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from datasets import Dataset
from transformers import AutoModel

from speechprompt_hf import SpeechPromptForSpeechGeneration
from speechprompt_hf.core.errors import ConfigurationError, DatasetError, UnitError
from speechprompt_hf.data.speech_pairs import load_speech_splits, pair_splits
from speechprompt_hf.evaluation import evaluate_speech
from speechprompt_hf.modeling.target_units import target_units_record
from speechprompt_hf.processors import SpeechUnitProcessor
from speechprompt_hf.tasks import speech_continuation, speech_translation_to_speech, unit_correction
from speechprompt_hf.training import SequenceTrainingSettings, run_speech_experiment
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_mbarts import tiny_mbart
from tests.fixtures.unit_tasks import save_audio_base, save_tiny_base, write_tones

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
FAST = SequenceTrainingSettings(num_virtual_tokens=3, num_epochs=2, batch_size=8)
SHORT = replace(speech_continuation, max_tokens=12)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    save_audio_base(folder / "base")
    write_tones(folder / "tones", rows_per_label=8)
    return folder


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """Parquet of units with durations: source and target, of two lengths."""
    folder = tmp_path_factory.mktemp("units")
    generator = np.random.default_rng(0)
    rows = []
    for number in range(40):
        source = (np.cumsum(generator.integers(1, 20, generator.integers(4, 12))) % 20).tolist()
        rows.append(
            {
                "units": source,
                "durations": generator.integers(1, 5, len(source)).tolist(),
                "source": " ".join(map(str, source)),
                "target": [(unit + 1) % 20 for unit in source[::-1]],
                "item": f"row {number}",
            }
        )
    Dataset.from_list(rows).to_parquet(str(folder / "rows.parquet"))
    return folder / "rows.parquet"


def test_pairs_of_recordings_are_their_units(work, tmp_path):
    processor = SpeechUnitProcessor.from_pretrained(work / "base")
    splits = load_speech_splits(work / "tones", SHORT)
    options = {"num_units": 20, "frame_rate": 50.0, "cache_dir": tmp_path, "progress": False}
    pairs, skips = pair_splits(splits, replace(SHORT, max_tokens=256), processor, **options)
    assert not skips and pairs.unit_fingerprint == processor.fingerprint
    for (_, rows), (_, recorded) in zip(pairs.items(), splits.items(), strict=True):
        for row, audio in zip(rows, recorded, strict=True):
            wave, _ = soundfile.read(audio["audio"]["path"], dtype="float32")
            (whole,) = processor.encode_units([wave], sampling_rate=16000)
            assert row["units"] + [int(unit) for unit in row["label"].split()] == whole.units.tolist()
            assert row["item"] == audio["item"]
            # At most half of the frames, but one unit at least.
            heard = whole.durations[: len(row["units"])].sum()
            assert heard <= whole.durations.sum() / 2 or len(row["units"]) == 1
    again, _ = pair_splits(splits, replace(SHORT, max_tokens=256), processor, **options)
    assert again.train["units"] == pairs.train["units"]
    cut, _ = pair_splits(splits, SHORT, processor, **options)
    assert max(len(text.split()) for text in cut.train["label"]) == 11


def test_clean_pairs_are_the_identity(units):
    splits = load_speech_splits(units, unit_correction)
    clean, _ = pair_splits(splits, replace(unit_correction, damage_rate=0.0), None, num_units=20, progress=False)
    assert [" ".join(map(str, row)) for row in clean.train["units"]] == clean.train["label"]
    damaged, _ = pair_splits(splits, unit_correction, None, num_units=20, progress=False)
    assert damaged.train["label"] == clean.train["label"] and damaged.train["units"] != clean.train["units"]


def test_durations_of_units_count_in_the_prompt(units):
    splits = load_speech_splits(units, speech_continuation)
    half, _ = pair_splits(splits, speech_continuation, None, num_units=20, frame_rate=50.0, progress=False)
    for row, recorded in zip(half.train, splits.train, strict=True):
        lengths, number = recorded["durations"], len(row["units"])
        assert sum(lengths[:number]) <= sum(lengths) / 2 or number == 1
        assert sum(lengths[: number + 1]) > sum(lengths) / 2


def test_durations_are_those_of_merged_units_or_refused(tmp_path):
    def read(**columns):
        rows = {"units": [[1, 1, 2, 2, 2, 1]] * 6, "item": [f"row {n}" for n in range(6)], **columns}
        Dataset.from_dict(rows).to_parquet(str(tmp_path / "rows.parquet"))
        return load_speech_splits(tmp_path / "rows.parquet", speech_continuation).train[0]

    for units in ([1, 1, 2, 2, 2, 1], "1 1 2 2 2 1"):
        assert read(units=[units] * 6, durations=[[5, 1, 2, 3, 4, 7]] * 6)["durations"] == [6, 9, 7]
    # Units a frame, and durations of those that are left.
    assert read(durations=[[2, 3, 1]] * 6)["durations"] == [2, 3, 1]
    for bad, words in (
        ([1, 2], "2 durations for 6 units"),
        (None, "no durations for 6 units"),
        ([1, 2, -3], "a duration of -3"),
        ([1, 2, None], "a duration of None"),
    ):
        with pytest.raises(UnitError, match=f"row 4 has {words}.*leave the column durations out"):
            read(durations=[[1, 2, 3]] * 4 + [bad] + [[1, 2, 3]])
    with pytest.raises(UnitError, match=r"row 0 has no durations"):
        read(durations=[0.5] * 6)
    path = tmp_path / "rows.parquet"
    assert "durations" not in load_speech_splits(path, unit_correction).train.column_names


def test_both_columns_of_a_translation(units, work, tmp_path):
    splits = load_speech_splits(units, speech_translation_to_speech)
    pairs, _ = pair_splits(splits, speech_translation_to_speech, None, num_units=20, progress=False)
    for read, said in zip(pairs.train["units"], pairs.train["label"], strict=True):
        assert said == " ".join(str((unit + 1) % 20) for unit in read[::-1])
    # Recordings on both sides, in the folder of their table; one target is no sound.
    files = sorted((work / "tones").rglob("*.wav"))
    folder = tmp_path / "paired"
    folder.mkdir()
    lines = ["file_name,target"]
    for number, (one, other) in enumerate(zip(files, files[::-1], strict=True)):
        (folder / f"a{number}.wav").write_bytes(one.read_bytes())
        (folder / f"b{number}.wav").write_bytes(other.read_bytes() if number != 3 else b"no sound")
        lines.append(f"a{number}.wav,b{number}.wav")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    processor = SpeechUnitProcessor.from_pretrained(work / "base")
    task = replace(speech_translation_to_speech, source_column="audio")
    pairs, skips = pair_splits(
        load_speech_splits(folder, task), task, processor, num_units=20, cache_dir=tmp_path, progress=False
    )
    assert len(skips) == 1 and "b3.wav" in skips[0].message
    assert sum(len(rows) for _, rows in pairs.items()) == len(files) - 1
    for row in pairs.train:
        number = int(row["item"].rpartition("/")[2].removeprefix("a").removesuffix(".wav"))
        for file, found in ((f"a{number}.wav", row["units"]), (f"b{number}.wav", row["label"])):
            wave, _ = soundfile.read(folder / file, dtype="float32")
            expected = processor.encode_units([wave], sampling_rate=16000)[0].units.tolist()
            assert (found if isinstance(found, list) else [int(unit) for unit in found.split()]) == expected


def test_continuation_from_recordings_to_an_adapter(work, tmp_path):
    made = run_speech_experiment(
        work / "tones",
        tmp_path / "adapter",
        task=SHORT,
        base=work / "base",
        settings=FAST,
        vocoder="org/vocoder",
        cache_dir=tmp_path / "cache",
        progress=False,
    )
    assert made.report["metric"] == "uer" and made.report["speech"] == SHORT.as_record()
    model = AutoModel.from_pretrained(tmp_path / "adapter")
    assert type(model) is SpeechPromptForSpeechGeneration
    assert model.config.speech_task == "continuation"
    assert model.config.vocoder_name_or_path == "org/vocoder"
    assert model.config.target_units["frame_rate"] == 50.0
    assert model.config.target_units["fingerprint"] == model.processor.fingerprint
    assert json.loads((tmp_path / "adapter" / "report.json").read_text())["data"]["source"] == str(work / "tones")
    wave = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    inputs = model.processor([wave], sampling_rate=16000, return_tensors="pt")
    assert model.generate_units(**inputs, do_sample=True)[0].dim() == 1


@pytest.mark.slow
def test_correction_learns_and_translation_says_other_units(units, tmp_path):
    save_tiny_base(tmp_path / "gslm")
    tiny_mbart(vocab_size=27, num_units=20).save_pretrained(tmp_path / "mbart")
    settings = replace(FAST, num_epochs=40, learning_rate=0.03, num_virtual_tokens=8, patience=40)
    report = run_speech_experiment(
        units, tmp_path / "a", task=unit_correction, base=tmp_path / "gslm", settings=settings, progress=False
    ).report
    assert report["value"] < report["baselines"]["most_frequent"]["scores"]["uer"]
    made = run_speech_experiment(
        units,
        tmp_path / "b",
        task=speech_translation_to_speech,
        base=tmp_path / "mbart",
        num_target_units=50,
        settings=FAST,
        progress=False,
    )
    assert made.result.model.config.target_units == {"num_units": 50, "fingerprint": None, "frame_rate": None}
    assert made.result.model.config.speech_task == "translation"


def test_what_is_refused(work, units, tmp_path):
    with pytest.raises(ConfigurationError, match="says the units that it reads, and other target units"):
        run_speech_experiment(units, tmp_path, task=unit_correction, base=work / "base", num_target_units=3)
    with pytest.raises(ConfigurationError, match="a target base has so many units as it has"):
        run_speech_experiment(
            units,
            tmp_path,
            task=speech_translation_to_speech,
            base=work / "base",
            target_base=work / "base",
            num_target_units=3,
        )
    save_tiny_base(tmp_path / "lm")
    with pytest.raises(ConfigurationError, match=r"the target base .* has no processor"):
        run_speech_experiment(
            units, tmp_path, task=speech_translation_to_speech, base=work / "base", target_base=tmp_path / "lm"
        )
    with pytest.raises(DatasetError, match=r"no column 'other'.*--source-column"):
        load_speech_splits(units, replace(unit_correction, source_column="other"))
    with pytest.raises(DatasetError, match=r"no column 'other'.*--target-column"):
        load_speech_splits(units, replace(speech_translation_to_speech, target_column="other"))
    Dataset.from_dict({"units": [[1]] * 6}).to_parquet(str(tmp_path / "short.parquet"))
    with pytest.raises(DatasetError, match=r"not one of .* rows can be used, first .* has too few units for the task"):
        pair_splits(
            load_speech_splits(tmp_path / "short.parquet", speech_continuation),
            speech_continuation,
            None,
            num_units=20,
            progress=False,
        )
    Dataset.from_dict({"source": [[1, 2]] * 6, "target": ["x.wav"] * 6}).to_parquet(str(tmp_path / "sides.parquet"))
    with pytest.raises(ConfigurationError, match=r"what is to be said are recordings, and there is no processor"):
        pair_splits(
            load_speech_splits(tmp_path / "sides.parquet", speech_translation_to_speech),
            speech_translation_to_speech,
            None,
            num_units=20,
            progress=False,
        )


def test_target_units_that_the_vocabulary_lacks_are_named(tmp_path):
    rows = [{"source": [n, n + 1], "target": [3, 5], "item": f"row {n}"} for n in range(20)]
    rows[7]["target"] = [4, 28]
    path = tmp_path / "rows.parquet"
    Dataset.from_list(rows).to_parquet(str(path))
    save_tiny_base(tmp_path / "base")
    task, options = speech_translation_to_speech, {"base": tmp_path / "base", "settings": FAST, "progress": False}
    with pytest.raises(UnitError, match=r"unit 28 of row 7, .* is not among the 26 target units.*--target-base"):
        run_speech_experiment(path, tmp_path / "a", task=task, **options)
    model = SpeechPromptForSpeechGeneration.from_base(
        tmp_path / "base", speech_task="translation", target_units=target_units_record(28)
    )
    with pytest.raises(UnitError, match=r"unit 28 of row 7, .* is not among the 28 target units"):
        evaluate_speech(model, path, task=task, progress=False)
