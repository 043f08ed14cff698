"""`speechprompt generate`: what it prints, its exit codes, and which vocoder it takes."""

import json
import shutil

import pytest

from tests.fixtures.speech_generation import save_speaking_folders, write_noises
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


def unwrapped(text):
    """What a box around an error says, as one line."""
    return " ".join(word for word in text.split() if word != "│")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = save_speaking_folders(tmp_path_factory.mktemp("work"))
    write_noises(folder / "noises", 2)
    return folder


def test_a_line_a_file(speechprompt, work, tmp_path):
    files = sorted((work / "noises").glob("*.wav"))
    options = ("--output", tmp_path / "out", "--prompt-seconds", 0.1)
    answer = speechprompt("generate", work / "adapter", *files, *options)
    assert answer.code == 0
    assert answer.out.splitlines() == [f"{file}\t{tmp_path / 'out' / file.name}" for file in files]
    again = speechprompt("generate", work / "adapter", *files, tmp_path / "none.wav", *options, "--json")
    assert again.code == 2 and "none.wav" in again.err
    *there, error = again.json["generations"]
    assert [entry["was_there"] for entry in there] == [True, True] and "none.wav" in error["error"]
    other = speechprompt("generate", work / "adapter", *files, *options, "--tempo", 2)
    assert other.code == 2 and "tempo was 1.0 and is 2.0" in other.err and other.out == ""
    assert speechprompt("generate", work / "adapter", *files, *options, "--tempo", 2, "--overwrite").code == 0


def test_resynthesis_needs_no_adapter(speechprompt, work, tmp_path):
    file = work / "noises" / "noise00.wav"
    options = ("--resynthesise", "--base", work / "base", "--output", tmp_path / "out")
    answer = speechprompt("generate", *options, "--vocoder", work / "vocoder", file)
    assert answer.code == 0 and answer.out == f"{file}\t{tmp_path / 'out' / 'noise00.wav'}\n"
    without = speechprompt("generate", *options, file)
    assert without.code == 2 and "no vocoder is named" in without.err


def test_a_vocoder_that_is_only_named_is_not_downloaded(speechprompt, work, tmp_path):
    shutil.copytree(work / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter" / "config.json"
    values = json.loads(path.read_text())
    for name, words in (("org/vocoder", "--vocoder org/vocoder"), (None, "no vocoder is named")):
        path.write_text(json.dumps({**values, "vocoder_name_or_path": name}))
        answer = speechprompt("generate", tmp_path / "adapter", work / "noises" / "noise00.wav", "-o", tmp_path / "o")
        assert answer.code == 2 and words in answer.err and not (tmp_path / "o").exists()


def test_wrong_usage(speechprompt, work, tmp_path):
    answer = speechprompt("generate", work / "adapter", "--output", tmp_path / "o")
    assert answer.code == 2 and "give an adapter and recordings" in " ".join(answer.err.split())
    file = work / "noises" / "noise00.wav"
    answer = speechprompt("generate", work / "base", file, "--output", tmp_path / "o")
    assert answer.code == 2 and "speechprompt train" in answer.err
    answer = speechprompt("generate", work / "adapter", file, "--output", tmp_path / "o", "--beams", 3)
    assert answer.code == 2 and "num_beams is 3 where units are drawn" in answer.err


def test_commands_for_labels_and_texts_name_this_one(speechprompt, work, tmp_path):
    adapter, file = work / "adapter", work / "noises" / "noise00.wav"
    (tmp_path / "units.jsonl").write_text(json.dumps({"units": [1, 2, 3]}) + "\n")
    for arguments, words in (
        (("predict", adapter, file), "predictions are labels and texts"),
        (("predict", adapter, tmp_path / "units.jsonl"), "predictions are labels and texts"),
        (("explain", adapter, file), "explanations are of labels"),
        (("explain", adapter), "explanations are of labels"),
    ):
        answer = speechprompt(*arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert f"{adapter} answers with speech, and {words}" in answer.err, answer.err
        assert "speechprompt generate ADAPTER RECORDING" in answer.err and "Traceback" not in answer.err


def test_an_adapter_is_no_vocoder(speechprompt, work, tmp_path):
    file = work / "noises" / "noise00.wav"
    answer = speechprompt("generate", work / "adapter", file, "-o", tmp_path / "o", "--vocoder", work / "adapter")
    assert answer.code == 2 and "of type 'speechprompt', which makes no sound of units" in answer.err


def test_from_recordings_to_speech(speechprompt, work, tmp_path):
    data = tmp_path / "data"
    write_noises(data / "any", 14)
    options = ("--dataset", data, "--base", work / "base", "--output", tmp_path / "adapter", "--epochs", 1)
    task = ("--task", "speech_continuation", "--num-virtual-tokens", 2, "--vocoder", work / "vocoder")
    trained = speechprompt("train", *options, *task, "--prompt-seconds", 0.1)
    assert trained.code == 0, trained.err
    assert "unit error rate" in trained.out and f"speechprompt generate {tmp_path / 'adapter'}" in trained.out
    measured = speechprompt("evaluate", tmp_path / "adapter", "--dataset", data, "--json")
    assert measured.code == 0, measured.err
    report = json.loads((tmp_path / "adapter" / "report.json").read_text())
    assert measured.json["value"] == report["value"]
    assert measured.json["num_rows"]["test"] == report["num_rows"]["test"]
    assert measured.json["speech"]["prompt_seconds"] == 0.1
    wrong = speechprompt("evaluate", tmp_path / "adapter", "--dataset", data, "--task", "speech_recognition")
    assert wrong.code == 2 and "is speech: this option is for texts" in unwrapped(wrong.err)
    files = sorted((work / "noises").glob("*.wav"))
    made = speechprompt("generate", tmp_path / "adapter", *files, "--output", tmp_path / "out", "--json")
    assert made.code == 0 and len(made.json["generations"]) == 2
    assert json.loads((tmp_path / "out" / "generation.json").read_text())["options"]["prompt_seconds"] == 0.1


def test_options_of_another_kind_of_task(speechprompt, work, tmp_path):
    def refused(*options):
        answer = speechprompt("train", "--dataset", tmp_path, "--output", tmp_path / "o", *options)
        assert answer.code == 2 and answer.out == ""
        return unwrapped(answer.err)

    assert "this option is for speech" in refused("--prompt-seconds", 2)
    assert "this option is for speech" in refused("--task", "speech_recognition", "--vocoder", "x")
    assert "this option is for texts" in refused("--task", "unit_correction", "--tokens", "words")
    assert "this option is for labels" in refused("--task", "unit_correction", "--readout", "pooled")
