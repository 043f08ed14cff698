"""Rows of units in files get the labels that they get in Python; a row or file that is wrong is named."""

import json
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from datasets import Dataset

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.core.errors import AdapterError, DatasetError, UnitError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.data.collators import UnitCollator
from speechprompt_hf.data.unit_tables import read_unit_table
from speechprompt_hf.evaluation import (
    class_probabilities,
    evaluate_sequences,
    predict_files,
    predict_units,
    say_rows,
)
from speechprompt_hf.tasks import SequenceTask
from tests.fixtures.sequence_models import make_sequence_model
from tests.fixtures.stock_unit_lms import wrapped
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm

ROWS = [[3, 1, 4, 1, 5], [9, 9, 2, 6], [5], [3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6]]
MERGED = [[unit for unit, _ in groupby(row)] for row in ROWS]
LIMIT = 38  # positions of the tiny model without start and separator


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    tiny_lm(seed=3, vocab_size=24).save_pretrained(base)
    # In another order than the numeric one, and without a processor.
    (base / "dict.txt").write_text(UnitVocabulary(tuple(map(str, reversed(range(20))))).to_dict_txt())
    return SpeechPromptForAudioClassification.from_base(base, ["no", "yes", "up"], num_virtual_tokens=2, seed=1)


def write(path, rows):
    """Rows of dictionaries in the format that the file's name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        path.write_text("units,item\n" + "".join(f"{row['units']},{row.get('item', '')}\n" for row in rows))
    return path


def as_text(units):
    return " ".join(map(str, units))


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.csv"])
def test_labels_are_those_of_the_same_rows_in_python(model, tmp_path, name):
    units = map(as_text, ROWS) if name.endswith("csv") else ROWS
    path = write(tmp_path / name, [{"units": row, "item": f"take {number}"} for number, row in enumerate(units)])
    found = list(predict_units(model, [path, str(path)]))
    expected = class_probabilities(model, Dataset.from_dict({"units": MERGED}))
    assert [each.row for each in found] == [0, 1, 2, 3] * 2
    assert [each.item for each in found[:4]] == [f"take {number}" for number in range(4)]
    for each, scores in zip(found, [*expected, *expected], strict=True):
        assert (str(each.file), each.error) == (str(path), None)
        assert each.label == ["no", "yes", "up"][scores.argmax()]
        assert each.probability == pytest.approx(scores.max(), abs=1e-6)


def test_text_and_frames_are_units_too(model, tmp_path):
    rows = [{"units": as_text(ROWS[0])}, {"units": [unit for unit in ROWS[0] for _ in range(3)]}, {"units": ROWS[0]}]
    found = list(predict_units(model, [write(tmp_path / "rows.jsonl", rows)]))
    assert len({(each.label, each.item, each.error) for each in found}) == 1 and found[0].item is None
    # Rows of one batch are summed in orders of their own.
    assert [each.probability for each in found] == pytest.approx([found[0].probability] * 3, abs=1e-6)


def test_a_bad_row_is_named_and_does_not_stop_the_others(model, tmp_path):
    bad = {
        "has no units": [[], None, "", "  "],
        "unit 20 is not among the 20 units": [[1, 20]],
        "unit -1 is not among the 20 units": [[-1]],
        "give lists of integers": [[1.5], 7, {"a": 1}],
        "are no numbers": ["1 two"],
        f"has {LIMIT + 1} units, more than the {LIMIT} that the base reads at once": [[0, 1] * (LIMIT // 2) + [2]],
    }
    rows = [{"units": units, "id": f"r{words[:5]}"} for words, each in bad.items() for units in each]
    good = [{"units": ROWS[0]}, {"units": [0, 1] * (LIMIT // 2)}]
    path = write(tmp_path / "rows.jsonl", [good[0], *rows, {"label": "no"}, good[1]])
    found = list(predict_units(model, [path]))
    assert [each.row for each in found] == list(range(len(rows) + 3))
    assert found[0].label and found[-1].label and found[0].error is found[-1].error is None
    words = [*[words for words, each in bad.items() for _ in each], "has no units"]
    for each, expected in zip(found[1:-1], words, strict=True):
        assert each.label is None and expected in each.error and f"row {each.row} of {path}" in each.error
    assert f"({rows[0]['id']})" in found[1].error


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"unit": [1], "label": "x"}', "has no column 'units'; its columns are unit, label"),
        ("a.csv", b"audio,label\nx.wav,no\n", "has no column 'units'; its columns are audio, label"),
        ("a.csv", b"units\n", "has no rows"),
        ("a.csv", b"", "has no column 'units'"),
        ("a.jsonl", b'{"units": [1]}\n{"units"', "line 2 of .* is no JSON"),
        ("a.jsonl", b"[1, 2]", "line 1 of .* is no JSON object"),
        ("a.jsonl", b"[" * 100_000, "line 1 of .* is no JSON"),
        ("a.jsonl", b"\xff\xfe", "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.parquet", None, "there is no file"),
        ("a.txt", b"1 2 3", r"is no table of units \(read are .parquet, .jsonl, .csv"),
    ],
)
def test_a_file_that_is_no_table_of_units_is_named(model, tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=words) as raised:
        read_unit_table(path)
    good = write(tmp_path / "good.jsonl", [{"units": ROWS[0]}])
    bad, other = predict_units(model, [path, good])
    assert bad.error == str(raised.value) and str(path) in bad.error and bad.row is None
    assert other.label is not None


def test_a_parquet_of_recordings_is_sent_elsewhere(tmp_path):
    path = write(tmp_path / "a.parquet", [{"audio": "x.wav", "label": "no"}])
    with pytest.raises(DatasetError, match=r"columns are audio, label.*speechprompt units.*speechprompt evaluate"):
        read_unit_table(path)


def test_units_of_another_encoder_are_refused(model, tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", [{"units": ROWS[0]}])
    (tmp_path / "units.json").write_text(json.dumps({"fingerprint": {"digest": "0" * 64, "encoder_id": "another"}}))
    (found,) = predict_units(model, [path])
    assert found.error is None  # nothing says whose units the model was trained on
    monkeypatch.setattr(model.config, "unit_fingerprint", {"digest": "1" * 64, "encoder_id": "mine"})
    (found,) = predict_units(model, [path])
    assert "were made by another" in found.error and "mine" in found.error and found.row is None


def test_recordings_without_a_processor_are_told_of_units(model):
    with pytest.raises(AdapterError, match=r"no processor.*Rows of units \(\.parquet, \.jsonl, \.csv\) need none"):
        next(predict_files(model, ["a.wav"]))


class OneUnitASample:
    """A processor whose units are the samples of a file, in hundredths."""

    feature_extractor = SimpleNamespace(sampling_rate=16_000, min_samples=1)

    def __call__(self, waves, **options):
        units = [[round(100 * float(sample)) for sample in wave] for wave in waves]
        return UnitCollator(UnitVocabulary.from_num_units(20))([{"units": row} for row in units])


def test_every_error_of_a_recording_names_it(model, tmp_path):
    fits, long, strange, broken = (tmp_path / f"{name}.wav" for name in ("fits", "long", "strange", "broken"))
    for path, units in ((fits, [0, 1] * 19), (long, [0, 1] * 19 + [2]), (strange, [1, 20])):
        soundfile.write(path, np.array(units) / 100, 16_000, subtype="FLOAT")
    broken.write_bytes(b"no sound")
    found = list(predict_files(model, [fits, long, strange, broken], OneUnitASample()))
    assert found[0].error is None and found[0].label is not None
    assert found[1].error.startswith(f"{long} has 39 units, more than the {LIMIT} that the base reads at once (cut it")
    assert found[2].error.startswith(f"{strange}: unit 20 is not among")
    assert str(broken) in found[3].error and found[3].error.count(str(broken)) == 1
    assert all(each.label is None for each in found[1:])


def test_an_error_of_the_model_names_the_recording_too(model, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)

    def refuses(*arguments, **options):
        raise UnitError("a sequence is too long", hint="cut it")

    monkeypatch.setattr(OneUnitASample, "__call__", refuses)
    (found,) = predict_files(model, [tmp_path / "a.wav"], OneUnitASample())
    assert found.error == f"{tmp_path / 'a.wav'}: a sequence is too long (cut it)"


@pytest.mark.filterwarnings(PEFT_WARNING)
@pytest.mark.parametrize("num_beams", [1, 2])
def test_utterances_without_room_for_an_answer_do_not_stop_the_others(tmp_path, num_beams):
    _, lm = wrapped("opt", tmp_path, start=False)
    saying = make_sequence_model(lm, max_output_tokens=8)
    with torch.no_grad():
        saying.verbalizer.weight[0] *= 0  # the end is seldom said
    # 64 learned positions: start, separator, and seven tokens that are read after it.
    fits, long = [0, 1] * 27 + [2], [0, 1] * 28
    path = write(tmp_path / "rows.jsonl", [{"units": fits}, {"units": long}, {"units": [0, 1]}])
    first, second, third = predict_units(saying, [path], num_beams=num_beams)
    assert first.error is None and len(first.text) > 4 and third.text
    assert second.error.startswith(f"row 1 of {path} has 56 units, more than the 55 that the base reads at once")
    with pytest.raises(UnitError, match="56 units, more than the 55"):
        say_rows(saying, Dataset.from_dict({"units": [long]}), num_beams=num_beams)
    known = Dataset.from_dict({"units": [fits, long], "label": ["a", "b"], "speaker": ["x", "y"], "item": ["i", "j"]})
    report = evaluate_sequences(saying, known, task=SequenceTask("x", metrics=("cer",)), progress=False)
    assert report["num_rows"] == {"test": 1} and report["skips"][0]["item"] == "j"
