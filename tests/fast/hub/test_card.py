"""Model cards: true to the report, silent about the machine, and kind to what somebody wrote."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.evaluation.baselines import BaselineResult
from speechprompt_hf.evaluation.report import build_report
from speechprompt_hf.hub.card import write_base_card, write_model_card
from speechprompt_hf.hub.card_text import last_name, public_name, without_paths
from speechprompt_hf.tasks import task_from_labels
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm
from tests.fixtures.unit_tasks import save_tiny_base

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

LABELS = ["high", "low"]
SECRET = "/home/alice/secret project"
SECTION = re.compile(r"<!-- speechprompt:([a-z-]+) [0-9a-f]{16} -->.*?<!-- /speechprompt:\1 -->", re.DOTALL)
RECORD = re.compile(r"<!-- speechprompt:record .*? -->")


def baseline(accuracy, num_parameters):
    return BaselineResult(accuracy=accuracy, predicted=(), num_parameters=num_parameters, seconds=0.1)


def make_report(labels=LABELS, accuracy=0.8125, source=SECRET + "/tones", **fields):
    task = task_from_labels(labels)
    report = build_report(
        task=task,
        scores={
            "accuracy": accuracy,
            "macro_f1": 0.7931034482758621,
            "accuracy_interval": [0.71, 0.905],
            "interval": {"confidence": 0.95, "over": "speakers", "method": "percentile bootstrap"},
            "per_label": {label: {"num_rows": 8, "recall": 0.75} for label in labels},
        },
        baselines={"majority": baseline(0.5, 0), "tfidf": baseline(0.8437, 4321)},
        method="prompt",
        trained_parameters=12576,
        seconds=33.3,
        seed=3,
        base=DEFAULT_BASE,
        data={"source": source, "speakers_apart": True, "fingerprint": {"digest": "d" * 64}},
        num_rows={"train": 64, "validation": 16, "test": 16},
        units={"digest": "e" * 64, "encoder_id": "org/encoder", "layer": 3},
        training={"settings": {"learning_rate": 0.01, "batch_size": 16}, "num_epochs": 7.0, "num_copies": 2},
        warnings=[f"2 file(s) in {SECRET}/tones/low left out, first 'x.m4a': convert them to wav"],
    )
    report["skips"] = [{"item": f"{SECRET}/tones/bob.wav", "error": "AudioDecodeError", "message": f"{SECRET} broken"}]
    return {**report, **fields}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An adapter over the embedded base with a processor and a report."""
    folder = tmp_path_factory.mktemp("saved") / "my-adapter"
    processor = AutoProcessor.from_pretrained(resolve_base(DEFAULT_BASE))
    model = SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, LABELS, processor=processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder, base_source=DEFAULT_BASE)
    (folder / "report.json").write_text(json.dumps(make_report()))
    (folder / "confusion.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def adapter(saved, tmp_path):
    folder = tmp_path / "my-adapter"
    shutil.copytree(saved, folder)
    return folder


@pytest.fixture
def readme(adapter):
    return adapter / "README.md"


def read(path):
    return path.read_bytes().decode()


def edit(path, old, new):
    text = read(path)
    assert text.count(old) == 1, old
    path.write_bytes(text.replace(old, new).encode())


def with_report(folder, **fields):
    (folder / "report.json").write_text(json.dumps(make_report(**fields)))


def set_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def outside(text):
    return RECORD.sub("", SECTION.sub("", text))


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
    base = "/home/alice/secret project/bases/tiny"
    set_config(adapter, base_model_name_or_path=base, unit_fingerprint={"encoder_id": "/home/alice/enc", "layer": 1})
    path = adapter / "processor_config.json"
    processor = json.loads(path.read_text())
    processor["unit_encoder"]["source"] = base
    path.write_text(json.dumps(processor))
    report = make_report(base=base, units=None)
    report["warnings"] += [
        "see /home/alice/notes.txt, ~/x/y.wav and C:\\Users\\alice\\x.wav",
        "given as '/home/alice b/c d.wav'",
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
        ("/home/alice/data", "data"),
        ("/home/alice", "a folder"),
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
    assert public_name("/home/alice/base") == "base" and public_name("D:\\bases\\tiny") == "tiny"
    assert without_paths("in /srv/a b/c: x", ["/srv/a b"]) == "in c: x"
    assert without_paths("/root/x and my/root/y", ["/root"]) == "x and my/root/y"


# What somebody wrote stays


def test_writing_twice_changes_nothing(adapter, readme):
    write_model_card(adapter, repo_id="org/tones", license="mit", language="en", dataset="org/data")
    first = read(readme)
    # Arguments are remembered.
    assert write_model_card(adapter).kept == () and read(readme) == first


def test_new_results_replace_old_ones(adapter, readme):
    write_model_card(adapter)
    with_report(adapter, accuracy=0.9)
    card = write_model_card(adapter)
    assert card.kept == () and card.data.eval_results[0].metric_value == 0.9
    assert "90.0 %" in read(readme) and "81.2 %" not in read(readme)


def test_an_edited_section_stays_until_overwritten(adapter, readme):
    write_model_card(adapter)
    edit(readme, "## Results", "## My results")
    with_report(adapter, accuracy=0.9)
    card = write_model_card(adapter)
    assert len(card.kept) == 1 and "'results' was edited" in card.kept[0]
    text = read(readme)
    assert "## My results" in text and "**Accuracy 90.0 %**" in text and "| 81.2 % |" in text
    card = write_model_card(adapter, overwrite=True)
    assert card.kept == () and "## My results" not in read(readme) and "81.2 %" not in read(readme)


def test_a_deleted_section_stays_away_until_overwritten(adapter, readme):
    write_model_card(adapter)
    text = read(readme)
    (section,) = [found[0] for found in SECTION.finditer(text) if found[1] == "limits"]
    edit(readme, section, "")
    assert any("'limits' was deleted" in note for note in write_model_card(adapter).kept)
    assert "## Limits" not in read(readme)
    write_model_card(adapter, overwrite=True)
    assert "## Limits" in read(readme)


def test_metadata_of_somebody_stay(adapter, readme):
    write_model_card(adapter, license="mit")
    text = read(readme)
    text = text.replace("license: mit\n", "license: cc0-1.0  # asked Bob\n# mine\nthumbnail: x.png\n")
    text = text.replace("pipeline_tag: audio-classification\n", "")
    text = text.replace("\n---\n", "\n# after the results\n---\n", 1)
    readme.write_bytes(text.encode())
    with_report(adapter, accuracy=0.9)
    card = write_model_card(adapter, license="apache-2.0")
    text = read(readme)
    assert card.data.license == "cc0-1.0" and "license: cc0-1.0  # asked Bob\n# mine\nthumbnail: x.png\n" in text
    assert "This adapter: cc0-1.0." in text, "text and metadata agree"
    assert "\n# after the results\n---\n" in text, "the key before the comment was rewritten, the comment was not"
    assert card.data.pipeline_tag is None
    assert card.data.eval_results[0].metric_value == 0.9
    assert sorted(note.split("'")[1] for note in card.kept) == ["license", "pipeline_tag"]
    card = write_model_card(adapter, license="apache-2.0", overwrite=True)
    assert card.data.license == "apache-2.0" and card.data["thumbnail"] == "x.png" and card.data.pipeline_tag


def test_a_license_can_be_changed_by_the_next_call(adapter):
    write_model_card(adapter, license="mit")
    card = write_model_card(adapter, license="apache-2.0")
    assert card.data.license == "apache-2.0" and card.kept == ()


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ["", "---\ntags: [mine]\nlicense: cc0-1.0\n---\n"], ids=["no metadata", "metadata"])
def test_a_readme_without_markers_is_kept_whole(adapter, readme, head, line_break):
    body = "# My work\n\nAll mine.   \n\n```\ncode\n```".replace("\n", line_break)
    readme.write_bytes((head.replace("\n", line_break) + body).encode())
    card = write_model_card(adapter, repo_id="org/tones")
    text = read(readme)
    assert body in text and text.index(body) < text.index("speechprompt:summary")
    assert text.count("## org/tones") == 1, "one title is enough"
    assert text.count("\r\n") == (text.count("\n") if line_break == "\r\n" else 0)
    if head:
        assert card.data.tags == ["mine"] and card.data.license == "cc0-1.0" and "tags: [mine]" in text
    write_model_card(adapter)
    assert read(readme) == text, "appended once"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=30), min_size=12),
    accuracy=st.floats(0, 1),
)
def test_any_text_outside_the_markers_stays_to_the_letter(saved, tmp_path_factory, pieces, accuracy):
    folder = tmp_path_factory.mktemp("any")
    for name in ("config.json", "processor_config.json", "report.json"):
        shutil.copy(saved / name, folder / name)
    write_model_card(folder, repo_id="org/tones")
    text = read(folder / "README.md")
    head, body = text.split("\n---\n", 1)
    stops = [0, *(found.end() for found in SECTION.finditer(body)), len(body)]
    parts = [body[start:end] for start, end in pairwise(stops)]
    edited = "".join(piece + part for piece, part in zip(pieces, parts, strict=False)) + pieces[-1]
    (folder / "README.md").write_bytes(f"{head}\n---\n{edited}".encode())
    with_report(folder, accuracy=accuracy)
    card = write_model_card(folder)
    after = read(folder / "README.md").split("\n---\n", 1)[1]
    assert outside(after) == outside(edited)
    assert card.kept == () and card.data.eval_results[0].metric_value == accuracy


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OWN_KEYS = {"eval_results", "model_name", "model-index", "ignore_metadata_errors", "metrics", "tags"}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    added=st.dictionaries(st.text(min_size=1, max_size=12).filter(lambda key: key not in OWN_KEYS), yaml_values),
    flow=st.booleans(),
)
def test_any_metadata_that_somebody_adds_stay(saved, tmp_path_factory, added, flow):
    folder = tmp_path_factory.mktemp("any")
    for name in ("config.json", "report.json"):
        shutil.copy(saved / name, folder / name)
    block = yaml.safe_dump(added, default_flow_style=flow, allow_unicode=True)
    assume(yaml.safe_load(block) == added)
    (folder / "README.md").write_bytes(f"---\n{block}---\nmine\n".encode())
    write_model_card(folder)
    with_report(folder, accuracy=0.25)
    write_model_card(folder)
    values = yaml.safe_load(read(folder / "README.md").split("\n---\n", 1)[0].removeprefix("---\n"))
    assert {key: values[key] for key in added} == added
    assert values["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.25


# The short card of a model that is saved without a run


def test_the_full_card_replaces_the_short_one(tmp_path):
    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a|b", "<b>"], num_virtual_tokens=2)
    model.save_pretrained(tmp_path)
    short = ModelCard.load(tmp_path / "README.md")
    assert "saved without a report" in short.text and "a&#124;b, &lt;b&gt;" in short.text
    assert short.data.library_name == "peft"
    report = make_report(labels=["<b>", "a|b"])
    card = write_model_card(tmp_path, repo_id="org/tones", report=report)
    assert card.kept == () and "saved without a report" not in card.text and "PATH OR ID" not in card.text
    assert "prompt tuning" in card.data.tags and card.text.count("speechprompt:summary") == 2
    # transformers.Trainer calls this before it publishes.
    before = read(tmp_path / "README.md")
    model.config.base_model_name_or_path = "org/base"
    model.create_or_update_model_card(tmp_path)
    assert read(tmp_path / "README.md") == before


def test_the_card_of_trainer_is_replaced_and_others_are_not(tmp_path):
    from transformers.modelcard import AUTOGENERATED_TRAINER_COMMENT

    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b"], num_virtual_tokens=2)
    model.config.base_model_name_or_path = "org/base"
    path = tmp_path / "README.md"
    path.write_text(f"---\npipeline_tag: text-generation\n---\n{AUTOGENERATED_TRAINER_COMMENT}\n# out\n")
    model.create_or_update_model_card(tmp_path)
    assert ModelCard.load(path).data.pipeline_tag == "audio-classification" and "# out" not in path.read_text()
    path.write_text("mine")
    model.create_or_update_model_card(tmp_path)
    assert path.read_text() == "mine"


# Hostile labels

HOSTILE = [
    "a|b\nc",
    "<script>alert(1)</script>",
    "<!-- /speechprompt:labels -->",
    "-->",
    "![x](http://evil.example/x.png)",
    "`code` **bold** _i_ ~s~ $x$",
    "---\nlicense: mit\n---",
    "# title",
    "{{ jinja }} {0} %s",
    "\u202eevil\u0000\u0085\u2028x",
    "@everyone www.evil.example",
    "x" * 5000,
    "\\",
    "été 日本 🙂",
]


def test_hostile_labels_are_only_text(adapter, readme):
    set_config(adapter, id2label={str(index): label for index, label in enumerate(HOSTILE)})
    with_report(adapter, labels=HOSTILE, task={"name": HOSTILE[1], "labels": HOSTILE, "metric": "accuracy"})
    card = write_model_card(adapter)
    text = read(readme)
    names = [found[1] for found in SECTION.finditer(text)]
    assert names == ["summary", "use", "results", "labels", "data", "training", "base", "licence", "limits"]
    assert outside(text.split("\n---\n", 1)[1]).strip() == ""
    (section,) = [found[0] for found in SECTION.finditer(text) if found[1] == "labels"]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(HOSTILE) and all(row.count("|") == 4 for row in rows)
    assert all(len(row) < 300 for row in rows)
    assert not re.search(r"<(?!!-- /?speechprompt:)", section) and not re.search(r"(?<!\\)\]\(http", section)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x85\u2028\u202e]", text)
    assert "| été 日本 🙂 |" in section and card.data.license is None
    assert write_model_card(adapter).kept == () and read(readme) == text


def test_labels_are_shown_as_they_are_by_markdown(adapter, readme):
    markdown = pytest.importorskip("markdown_it")
    import html

    set_config(adapter, id2label={str(index): label for index, label in enumerate(HOSTILE)})
    with_report(adapter, labels=HOSTILE)
    write_model_card(adapter)
    (section,) = [found[0] for found in SECTION.finditer(read(readme)) if found[1] == "labels"]
    rendered = markdown.MarkdownIt("commonmark").enable("table").render(section)
    cells = [html.unescape(cell) for cell in re.findall(r"<tr>\n<td>(.*?)</td>", rendered)]
    plain = [" ".join(re.sub(r"[\x00\u202e]", "", label).split()) for label in HOSTILE]
    assert cells == [label if len(label) <= 80 else label[:79] + "…" for label in plain]


def test_a_thousand_labels(adapter, readme):
    labels = [f"label {index}" for index in range(1000)]
    set_config(adapter, id2label={str(index): label for index, label in enumerate(labels)})
    with_report(adapter, labels=labels)
    write_model_card(adapter)
    text = read(readme)
    assert "one of 1,000" in text or "of 1,000 labels" in text
    assert "| label 99 | 8 |" in text and "label 100" not in text and "And 900 more" in text
    assert len(text) < 20_000


# The snippets run


@pytest.mark.slow
def test_the_snippets_run(adapter, readme, tmp_path):
    write_model_card(adapter, repo_id="org/tones")
    generator = np.random.default_rng(0)
    soundfile.write(tmp_path / "RECORDING.wav", 0.1 * generator.standard_normal(16000).astype("float32"), 16000)
    text = read(readme).replace("org/tones", str(adapter))
    package, remote = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    (command,) = re.findall(r"```bash\n(.*?)\n```", text, re.DOTALL)
    assert command == f"speechprompt predict {adapter} RECORDING.wav"
    # Code that travels is tested in test_remote_code_doors; a local folder is opened by the registered classes.
    code = "\nprint('===')\n".join([package, remote, f"from speechprompt_cli.main import main\n{main_call(command)}"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "SPEECHPROMPT_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    by_package, by_remote, by_command = done.stdout.split("===\n")
    name, label, probability = by_package.split()
    assert name == "RECORDING.wav" and label in LABELS and 0.5 <= float(probability) <= 1
    assert by_remote.strip() in LABELS
    assert by_command.split("\t")[:2] == ["RECORDING.wav", label]


def main_call(command):
    return f"raise SystemExit(main({command.split()[1:]!r}))"


@pytest.mark.slow
def test_an_adapter_of_units_has_a_snippet_of_its_own(tmp_path):
    base = save_tiny_base(tmp_path / "base")
    SpeechPromptForAudioClassification.from_base(str(base), ["a", "b"]).save_pretrained(tmp_path / "adapter")
    write_model_card(tmp_path / "adapter", repo_id="org/units")
    (code,) = re.findall(r"```python\n(.*?)\n```", read(tmp_path / "adapter" / "README.md"), re.DOTALL)
    code = code.replace("org/units", str(tmp_path / "adapter"))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("a", "b")


# Mistakes are named, and nothing is written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("---\nlicense: [mit\n---\nmine", "metadata of .*README.md are not valid YAML, line"),
        ("---\ntags: @x\n---\nmine", "metadata of .*README.md are not valid YAML, line 2"),
        ("---\n- a\n- b\n---\nmine", "README.md are no mapping"),
        ("---\nmodel-index:\n- name: x\n---\nmine", "README.md are not those of a model card: .*results"),
    ],
)
def test_broken_metadata_are_named_and_left_alone(adapter, readme, text, message):
    readme.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        write_model_card(adapter)
    assert readme.read_text() == text
    assert sorted(path.name for path in adapter.glob(".README*")) == []


def test_a_readme_in_another_encoding_is_named(adapter, readme):
    readme.write_bytes("é".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"README\.md is not UTF-8"):
        write_model_card(adapter)


def test_other_folders_are_refused(adapter, tmp_path):
    with pytest.raises(AdapterError, match=r"has no config\.json"):
        write_model_card(tmp_path)
    with pytest.raises(ConfigurationError, match=r"has no config\.json"):
        write_base_card(tmp_path, repo_id="org/base")
    set_config(adapter, model_type="gslm")
    with pytest.raises(AdapterError, match="type 'gslm', no adapter"):
        write_model_card(adapter)


@pytest.mark.parametrize("name", ["repo_id", "base_id", "dataset"])
@pytest.mark.parametrize("value", ["/home/alice/x", "a b", "a/b/c", "../x", ""])
def test_impossible_ids_are_refused(adapter, name, value):
    with pytest.raises(ConfigurationError, match=f"{name} is {re.escape(repr(value))}, no id of the Hub"):
        write_model_card(adapter, **{name: value})


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "accuracy_interval", "baselines"])
def test_an_incomplete_report_is_named(adapter, name):
    report = copy.deepcopy(make_report())
    del report[name]
    (adapter / "report.json").write_text(json.dumps(report))
    with pytest.raises(ConfigurationError, match=rf"report\.json\) has {name} None"):
        write_model_card(adapter)
    report[name] = [0.5] if name == "accuracy_interval" else None
    with pytest.raises(ConfigurationError, match=f"has {name}"):
        write_model_card(adapter, report=report)
    (adapter / "report.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="holds no report"):
        write_model_card(adapter)


def test_a_damaged_record_forgets_but_breaks_nothing(adapter, readme):
    write_model_card(adapter, repo_id="org/tones")
    (record,) = RECORD.findall(read(readme))
    for damaged in ("", '<!-- speechprompt:record {"arguments": [1]} -->', "<!-- speechprompt:record {x} -->"):
        edit(readme, RECORD.search(read(readme))[0] if RECORD.search(read(readme)) else "\n---\n<!--", damaged or "")
        card = write_model_card(adapter, repo_id="org/tones")
        assert read(readme).count("## Results") == 1 and card.data.pipeline_tag == "audio-classification"
    assert record


# Bases


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "tiny-base"
    shutil.copytree(resolve_base(DEFAULT_BASE), folder)
    return folder


def test_the_text_of_the_embedded_base_is_kept(base):
    readme = base / "README.md"
    before = read(readme)
    block, body = before.split("\n---\n", 1)
    card = write_base_card(base, repo_id="org/tiny")
    text = read(readme)
    assert text.startswith(block) and body.rstrip() in text
    assert card.data.license == "apache-2.0" and card.data.tags[-1] == "HuBERT"
    assert "--base org/tiny" in text and 'base="org/tiny"' in text and text.count("## org/tiny") == 1
    assert "This base: apache-2.0." in text
    write_base_card(base, repo_id="org/tiny")
    assert read(readme) == text


def test_the_card_of_a_base_counts_its_parameters(base):
    from safetensors.torch import load_file

    (base / "README.md").unlink()
    card = write_base_card(base, repo_id="org/tiny", license="mit")
    for part in ("model.safetensors", "encoder/model.safetensors", "quantizer.safetensors"):
        count = sum(tensor.numel() for tensor in load_file(base / part).values())
        size = (base / part).stat().st_size / 1e6
        assert f"| {part} | {count:,} | {size:.1f} MB |" in card.text
    digest = json.loads((base / "config.json").read_text())["fingerprint"]["digest"]
    assert digest in card.text and "layer 3" in card.text and "100 k-means clusters, 50 frames a second" in card.text
    assert card.data.license == "mit" and card.text.startswith("<!-- speechprompt:base-summary")


def test_a_base_without_a_processor_or_with_a_private_encoder(base):
    for name in ("processor_config.json", "README.md", "quantizer.safetensors"):
        (base / name).unlink()
    set_config(base, fingerprint={"encoder_id": "/home/alice/hubert", "layer": 1, "normalization": "none"})
    text = write_base_card(base, repo_id="org/tiny").text
    assert "alice" not in text and "layer 1 of hubert" in text and "centroids" not in text.split("fingerprint")[0]
    set_config(base, fingerprint=None)
    assert "Nothing says which encoder" in write_base_card(base, repo_id="org/tiny").text
    set_config(base, fingerprint={"encoder_id": "org/hubert", "revision": "b" * 40, "layer": 1})
    assert f"huggingface.co/org/hubert/tree/{'b' * 40}" in write_base_card(base, repo_id="org/tiny").text


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x08" + b"\0" * 7 + b'{"a": 1}'])
def test_damaged_weights_of_a_base_are_named(base, content):
    (base / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"model\.safetensors is no whole safetensors file"):
        write_base_card(base, repo_id="org/tiny")


def test_an_impossible_id_of_a_base_is_refused(base):
    with pytest.raises(ConfigurationError, match="repo_id is '', no id"):
        write_base_card(base, repo_id="")


def test_no_test_here_wrote_into_the_package():
    assert "speechprompt:" not in (Path(resolve_base(DEFAULT_BASE)) / "README.md").read_text()
