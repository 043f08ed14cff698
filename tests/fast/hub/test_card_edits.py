"""What somebody wrote into a model card stays."""

import shutil
from itertools import pairwise

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.hub.card import write_model_card
from tests.fixtures.cards import SECTION, edit, make_report, outside, read, with_report
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


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
