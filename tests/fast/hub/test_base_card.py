"""The cards of bases."""

import json
import shutil
from pathlib import Path

import pytest

from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.hub.card import write_base_card
from tests.fixtures.cards import HOME, read, set_config
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


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
    set_config(base, fingerprint={"encoder_id": f"{HOME}/hubert", "layer": 1, "normalization": "none"})
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
