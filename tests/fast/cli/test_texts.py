"""`train`, `evaluate` and `predict` with tasks whose answer is a text."""

import json

import pytest

from speechprompt_cli.sequences import SEQUENCE_TASK_NAMES
from tests.fixtures.text_tasks import spoken
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm
from tests.fixtures.unit_tasks import utterances

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

QUICK = ("--epochs", 1, "--num-virtual-tokens", 3)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    tiny_lm(std=0.15, max_position_embeddings=200).save_pretrained(folder / "base")
    rows = spoken(48, 0, "abcdefgh")
    rows.rename_column("label", "text").to_parquet(str(folder / "rows.parquet"))
    utterances(24, 0, "abcd").to_parquet(str(folder / "labels.parquet"))
    return folder


@pytest.fixture(scope="module")
def adapter(work):
    from speechprompt_cli.main import main

    command = ["train", "--dataset", work / "rows.parquet", "--base", work / "base", "--output", work / "adapter"]
    command += ["--task", "speech_recognition", *QUICK]
    assert main([str(part) for part in command]) == 0
    return work / "adapter"


@pytest.fixture(scope="module")
def classifier(work):
    from speechprompt_hf import SpeechPromptForAudioClassification

    model = SpeechPromptForAudioClassification.from_base(work / "base", ["a", "b"], num_virtual_tokens=3)
    model.save_pretrained(work / "classifier")
    return work / "classifier"


def one_line(text):
    return " ".join(text.replace("│", " ").split())


def train(speechprompt, work, output, *options, rows="rows.parquet"):
    command = ["train", "--dataset", work / rows, "--base", work / "base", "--output", output]
    return speechprompt(*command, *QUICK, *options)


def test_names_and_defaults_are_those_of_the_library():
    from speechprompt_hf.tasks import SEQUENCE_TASKS
    from speechprompt_hf.training import SequenceTrainingSettings

    assert tuple(SEQUENCE_TASKS) == SEQUENCE_TASK_NAMES
    settings = SequenceTrainingSettings()
    # Told by the help of these options.
    assert (settings.num_virtual_tokens, settings.num_epochs) == (180, 50)
    assert (settings.learning_rate, settings.finetune_learning_rate) == (0.005, 0.0005)
    # Not told: the same as for labels.
    assert (settings.batch_size, settings.patience, settings.num_beams) == (16, 10, 1)


def test_train_prints_error_rates_with_intervals_and_examples(speechprompt, work, tmp_path):
    answer = train(speechprompt, work, tmp_path / "a", "--task", "speech_recognition", "--tokens", "words")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].startswith("word error rate  ") and "95 % interval" in lines[0] and "lower is better" in lines[0]
    assert lines[1].startswith("character error rate  ")
    assert lines[2].startswith("for comparison, always the most frequent text in training (")
    assert "reference  " in answer.out and "said       " in answer.out
    assert f"next: speechprompt predict {tmp_path / 'a'} UNITS.parquet" in lines[-1]
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["task"]["tokens"] == "words" and report["training"]["settings"]["num_virtual_tokens"] == 3
    # What was not given is the default of texts, not of labels.
    assert report["training"]["settings"]["learning_rate"] == 0.005
    again = train(speechprompt, work, tmp_path / "a", "--task", "speech_recognition")
    assert again.code == 2 and "--overwrite" in again.err


@pytest.mark.parametrize(
    ("task", "column", "metrics"),
    [("phone_recognition", "text", ["per"]), ("speech_translation", "text", ["bleu", "chrf"])],
)
def test_other_tasks_are_measured_by_their_own(speechprompt, work, tmp_path, task, column, metrics):
    options = ("--task", task, "--text-column", column, "--json")
    answer = train(speechprompt, work, tmp_path / "a", *options)
    assert answer.code == 0, answer.err
    assert list(answer.json["scores"]) == metrics and answer.json["task"]["text_columns"] == [column]


def test_slots_of_several_columns(speechprompt, work, tmp_path):
    rows = spoken(48, 0, "abcdefgh")
    rows = rows.map(lambda row: {"first": row["label"].split()[0], "last": [*row["label"].split()[1:], None][-1]})
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    command = ["train", "--dataset", tmp_path / "rows.parquet", "--base", work / "base", "--output", tmp_path / "a"]
    answer = speechprompt(*command, *QUICK, "--task", "slot_filling", "--text-column", "first, last", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["metric"] == "slot_f1" and answer.json["examples"][0]["reference"].startswith("[first] ")


def test_predict_prints_texts(speechprompt, work, adapter):
    answer = speechprompt("predict", adapter, work / "rows.parquet")
    assert answer.code == 0, answer.err
    lines = [line.split("\t") for line in answer.out.splitlines()]
    assert len(lines) == 48 and all(len(line) == 2 for line in lines) and lines[3][0] == "utterance 3"
    as_json = speechprompt("predict", adapter, work / "rows.parquet", "--json", "--beams", 2).json["predictions"]
    assert set(as_json[0]) == {"file", "row", "item", "text", "score"} and as_json[0]["score"] <= 0


def test_predict_of_recordings_wants_a_processor(speechprompt, adapter, recordings):
    answer = speechprompt("predict", adapter, recordings / "low" / "0.wav")
    assert answer.code == 2 and "no processor that makes units" in answer.err


def test_evaluate_measures_the_held_out_part(speechprompt, work, adapter, tmp_path):
    trained = json.loads((adapter / "report.json").read_text())
    answer = speechprompt("evaluate", adapter, "--dataset", work / "rows.parquet", "--json")
    assert answer.code == 0, answer.err
    assert (
        answer.json["scores"] == trained["scores"] and answer.json["num_rows"]["test"] == trained["num_rows"]["test"]
    )
    assert "only its test part is measured" in answer.json["warnings"][0]
    text = speechprompt("evaluate", adapter, "--dataset", work / "rows.parquet", "--output", tmp_path / "r.json")
    assert text.out.startswith("word error rate") and (tmp_path / "r.json").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--readout", "separator"], "--readout"),
        (["--label-column", "text"], "--label-column"),
        (["--label-smoothing", "0.1"], "--label-smoothing"),
        (["--baseline", "hidden_states"], "--baseline"),
        (["--text-column", "words"], "there is no column 'words'"),
        (["--text-column", "text,speaker"], "has 2 text columns: text, speaker"),
        (["--prompt-init", "class_means"], "prompt_init is 'class_means' for a task without classes"),
        (["--method", "probe"], "the method 'probe' generates no sequences"),
        (["--tokens", "letters"], "letters"),
        (["--max-tokens", "1"], "have more than 1 tokens"),
    ],
    ids=str,
)
def test_what_a_task_of_texts_does_not_take_is_exit_code_2(speechprompt, work, tmp_path, options, words):
    answer = train(speechprompt, work, tmp_path / "a", "--task", "speech_recognition", *options)
    assert answer.code == 2 and answer.out == ""
    assert words in one_line(answer.err), answer.err
    assert "Traceback" not in answer.err and not (tmp_path / "a" / "config.json").exists()


@pytest.mark.parametrize(
    "option", [["--text-column", "label"], ["--tokens", "words"], ["--beams", "2"], ["--max-tokens", "9"]], ids=str
)
def test_what_labels_do_not_take_is_exit_code_2(speechprompt, work, tmp_path, option):
    answer = train(speechprompt, work, tmp_path / "a", *option, rows="labels.parquet")
    assert answer.code == 2 and option[0] in answer.err and "this option is for texts" in one_line(answer.err)


def test_what_the_adapter_does_not_take_is_refused(speechprompt, work, adapter, classifier):
    answer = speechprompt("evaluate", adapter, "--dataset", work / "rows.parquet", "--label-column", "text")
    assert answer.code == 2 and "--label-column" in answer.err
    answer = speechprompt("predict", classifier, work / "rows.parquet", "--beams", "2")
    assert answer.code == 2 and "--beams" in answer.err and "this option is for texts" in one_line(answer.err)
    for option in (["--beams", "2"], ["--task", "speech_recognition"], ["--text-column", "text"]):
        answer = speechprompt("evaluate", classifier, "--dataset", work / "labels.parquet", *option)
        assert answer.code == 2 and option[0] in answer.err, answer.err
    answer = speechprompt("evaluate", work / "absent", "--dataset", work / "rows.parquet")
    assert answer.code == 2 and "absent" in answer.err
