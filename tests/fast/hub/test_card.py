"""Model cards are true to the report and silent about the machine."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from speechprompt_hf.hub.card import write_model_card
from speechprompt_hf.hub.card_text import last_name, public_name, without_paths
from tests.fixtures.cards import (
    HOME,
    SECRET,
    make_report,
    read,
    set_config,
    with_report,
)
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


# What a card says


def test_metadata_are_read_back_and_the_model_index_equals_the_report(adapter, readme):
    returned = write_model_card(
        adapter, repo_id="org/tones", base_id="org/base", license="mit", language=["en", "lt"], dataset="org/data"
    )
    card = ModelCard.load(readme)
    assert returned.kept == () and card.data.to_dict() == returned.data.to_dict()
    assert card.data.to_dict() == yaml.safe_load(read(readme).split("---\n")[1])
    expected = {
        "library_name": "peft",
        "base_model": "org/base",
        "base_model_relation": "adapter",
        "pipeline_tag": "audio-classification",
        "license": "mit",
        "language": ["en", "lt"],
        "datasets": ["org/data"],
        "tags": ["speechprompt", "unit language model", "prompt tuning", "deep prompt"],
        "metrics": ["accuracy", "f1"],
    }
    values = card.data.to_dict()
    assert {name: values[name] for name in expected} == expected
    report = make_report()
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {
        "accuracy": report["accuracy"],
        "macro_f1": report["macro_f1"],
    }
    for result in card.data.eval_results:
        assert (result.dataset_type, result.dataset_name, result.dataset_split) == ("org/data", "org/data", "test")
        assert result.verified is None and result.task_type == "audio-classification"
    assert "verif" not in read(readme)


def test_data_in_a_folder_of_recordings_is_no_recordings_of_recordings(adapter, readme):
    write_model_card(adapter, report=make_report(source=f"{HOME}/recordings"))
    text = read(readme)
    assert "on 16 test recordings; data: recordings." in text and "recordings of recordings" not in text


def test_text_has_what_a_reader_needs(adapter, readme):
    set_config(adapter, base_revision="c" * 40)
    write_model_card(adapter, repo_id="org/tones", base_id="org/base", base_revision="a" * 40, license="mit")
    text = read(readme)
    for wanted in (
        "# org/tones\n",
        "**Accuracy 81.2 %** (95 % interval 71.0 % to 90.5 %)",
        "| **this adapter** | 81.2 % | 71.0 % to 90.5 % | 79.3 % | 12,576 |",
        "| TF-IDF of unit 1-3-grams, linear SVM | 84.4 % |  |  | 4,321 |",
        "| high | 8 | 75.0 % |",
        "](confusion.png)",
        "Source: tones. Rows: train 64, validation 16, test 16. No speaker is in more than one part.",
        "| learning\\_rate | 0.01 |".replace("\\", ""),
        "| epochs trained | 7.0 |",
        "12,576 trained parameters, 33 s.",
        f"[org/base](https://huggingface.co/org/base/tree/{'a' * 40})",
        f"Processor: its encoder and centroids lie in [org/base](https://huggingface.co/org/base/tree/{'a' * 40})",
        "This adapter: mit.",
        "1 AudioDecodeError",
        "left out, first 'x.m4a': convert them to wav",
        "speechprompt predict org/tones RECORDING.wav",
        'from_pretrained("org/tones", trust_remote_code=True)',
        "e" * 64,
        "torch 2.",
    ):
        assert wanted in text, wanted
    weights = json.loads((adapter / "config.json").read_text())["base_fingerprint"]["weights"]
    assert weights in text
    assert "c" * 40 not in text, "the commit of the base that the adapter named, not of org/base"


def test_a_picture_is_linked_only_where_there_is_one(adapter, readme):
    (adapter / "confusion.png").unlink()
    write_model_card(adapter)
    assert "confusion.png" not in read(readme) and "## Results" in read(readme)


def test_without_a_report_there_are_no_results(adapter, readme):
    (adapter / "report.json").unlink()
    card = write_model_card(adapter)
    assert card.data.eval_results is None and card.data.metrics is None
    assert "## Results" not in read(readme) and "high, low" in read(readme)
    card = write_model_card(adapter, report=make_report())
    assert card.data.eval_results and "## Results" in read(readme)


@pytest.mark.parametrize(
    ("source", "named"),
    [("org/speech", ["org/speech"]), ("/data/org/speech", None), ("given rows", None), ("speech", None)],
)
def test_data_sets_are_named_only_by_hub_ids(adapter, source, named):
    with_report(adapter, source=source)
    assert write_model_card(adapter).data.datasets == named


def test_a_relative_folder_of_the_run_is_no_data_set_later_either(adapter, tmp_path, monkeypatch):
    (tmp_path / "my" / "recordings").mkdir(parents=True)
    with_report(adapter, source="my/recordings")
    monkeypatch.chdir(tmp_path)
    assert write_model_card(adapter).data.datasets is None
    monkeypatch.chdir(adapter)
    assert write_model_card(adapter).data.datasets is None


@pytest.mark.parametrize(("method", "library"), [("probe", "transformers"), ("finetune", "transformers")])
def test_other_methods(adapter, method, library):
    set_config(adapter, method=method)
    card = write_model_card(adapter)
    assert card.data.library_name == library and method in card.data.tags
    assert card.data["base_model_relation"] == ("finetune" if method == "finetune" else "adapter")


# Nothing private


def test_no_path_and_no_user_is_named(adapter, readme):
    base = f"{SECRET}/bases/tiny"
    set_config(adapter, base_model_name_or_path=base, unit_fingerprint={"encoder_id": f"{HOME}/enc", "layer": 1})
    path = adapter / "processor_config.json"
    processor = json.loads(path.read_text())
    processor["unit_encoder"]["source"] = base
    path.write_text(json.dumps(processor))
    report = make_report(base=base, units=None)
    report["warnings"] += [
        f"see {HOME}/notes.txt, ~/x/y.wav and C:\\Users\\alice\\x.wav",
        f"given as '{HOME} b/c d.wav'",
        f"{base} holds a processor",
        "and/or 1/2 https://example.org/a/b stay",
    ]
    card = write_model_card(adapter, repo_id="org/tones", report=report)
    text = read(readme)
    for private in ("alice", "secret", "/home", "bob", "Users", str(adapter.parent), "~/"):
        assert private not in text, private
    assert card.data.base_model is None and "tiny, a folder of the machine" in text
    assert "b/c" not in text and "notes.txt" in text and "c d.wav" in text
    assert "and/or 1/2 https&#58;//example.org/a/b stay" in text
    assert "trust_remote_code" not in text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{HOME}/data", "data"),
        (HOME, "a folder"),
        ("/root", "a folder"),
        ("~/data/", "data"),
        ("~alice/data", "a folder"),
        ("C:\\Users\\alice\\data", "data"),
        ("C:\\Users\\alice", "a folder"),
        ("../alice/data", "data"),
        ("/data/fsdd", "fsdd"),
        ("/", "a folder"),
        ("quickstart-output/recordings", "recordings"),
    ],
)
def test_of_a_path_only_the_last_name_is_told(path, name):
    assert last_name(path) == name


def test_a_name_that_is_not_utf8_breaks_nothing(adapter, readme):
    with_report(adapter, source="/data/r\udce9c")
    write_model_card(adapter)
    assert "Source: r?c." in read(readme)


def test_line_breaks_of_unicode_in_metadata_are_read_back(adapter, readme):
    value = "a\x85b\u2028c"
    readme.write_text(f"---\nnote: {json.dumps(value)}\n---\n")
    write_model_card(adapter)
    assert yaml.safe_load(read(readme).split("\n---\n")[0])["note"] == value
    readme.write_text("---\n{note: " + json.dumps(value) + "}\n---\n")
    assert write_model_card(adapter).data["note"] == value


def test_public_names():
    assert public_name("org/base") == "org/base" and public_name(None) is None
    assert public_name(f"{HOME}/base") == "base" and public_name("D:\\bases\\tiny") == "tiny"
    assert without_paths("in /a b/c: x", ["/a b"]) == "in c: x"
    assert without_paths("/a/x and my/a/y", ["/a"]) == "x and my/a/y"
