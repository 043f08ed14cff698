"""Mistakes around model cards are named, and nothing is written."""

import copy
import json
import re

import pytest

from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.hub.card import write_base_card, write_model_card
from tests.fixtures.cards import (
    HOME,
    RECORD,
    edit,
    make_report,
    read,
    set_config,
)
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


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
@pytest.mark.parametrize("value", [f"{HOME}/x", "a b", "a/b/c", "../x", ""])
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
