"""What was converted, published through the real client: what arrives, and what the card says."""

import json

import huggingface_hub.constants
import pytest
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor

from speechprompt_cli.main import main
from speechprompt_hf.core.errors import ConfigurationError, HubError
from speechprompt_hf.hub import client
from speechprompt_hf.hub.push_converted import push_converted
from speechprompt_hf.processors.quantizer import Quantizer
from tests.fast.convert.conftest import LAYERS, WIDTH
from tests.fixtures.file_server import FileServer
from tests.fixtures.official_prompts import prompt_tensors, write_prompt
from tests.fixtures.published_files import UNITS, published_files, without_digests

# huggingface_hub 2.4 uploads with a call that its own network library calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")

CARD = {
    "encoder": ["A HuBERT speech encoder", "hubert_base_ls960.pt", "hubert/hubert_base_ls960.pt", "license: mit"],
    "quantizer": ["A k-means quantizer", "km.bin", "gslm/hubert/km100/km.bin", "license: mit", "`6`"],
    "processor": ["An encoder and a quantizer", "license: mit"],
    "vocoder": ["A vocoder", "g_00500000", "hubert_base_100_lj/g_00500000", "license: mit"],
    "lm": ["hubert100_lm.tgz", "checkpoint_best.pt", "license: mit", "speechprompt train"],
    "mbart": ["unit_mBART/checkpoint.pt", "license: mit"],
    "base": ["hubert100_lm.tgz", "license: mit", "layer 6 of hubert-base"],
}


@pytest.fixture(autouse=True)
def client_of_the_loopback(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder of each kind, converted by name from stand-ins of the published files."""
    work = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch, FileServer(published_files()) as server:
        without_digests(patch)
        patch.setenv("SPEECHPROMPT_CACHE", str(work / "cache"))
        patch.setenv("SPEECHPROMPT_MIRROR", server.url)
        for command in (
            ["encoder", "hubert-base", work / "encoder"],
            ["quantizer", "hubert-base-km100", work / "quantizer"],
            ["processor", "hubert-base-km100", work / "encoder", work / "quantizer", work / "processor"],
            ["gslm", "hubert-base-km100", work / "lm"],
            ["base", work / "lm", work / "processor", work / "base"],
            ["hifigan", "hubert-base-km100-lj", work / "vocoder"],
            ["unit-mbart", "mhubert-base-km1000", work / "mbart"],
        ):
            assert main(["convert", *map(str, command)]) == 0, command
    return work


@pytest.fixture
def to(hub):
    return {"endpoint": hub.url, "token": "token"}


@pytest.mark.parametrize("name", CARD)
def test_one_commit_with_weights_and_a_card_that_says_what_it_is(hub, to, converted, name):
    repo = f"org/{name}"
    done = push_converted(converted / name, repo, **to)
    assert hub.commits(repo)[0].oid == done.commit
    assert len(hub.commits(repo)) == 2
    files = set(hub.files(repo)) - {".gitattributes"}
    assert files == set(done.files)
    for file in files:
        if file.endswith(".safetensors"):
            assert hub.read(repo, file) == (converted / name / file).read_bytes()
    card = hub.read(repo, "README.md").decode()
    for words in CARD[name]:
        assert words in card, words
    assert str(converted) not in b"".join(hub.read(repo, file) for file in files).decode("latin1")


@pytest.mark.parametrize("name", ["encoder", "quantizer", "lm"])
def test_a_second_push_leaves_the_card_as_it_is(hub, to, converted, name):
    push_converted(converted / name, "org/again", **to)
    card = hub.read("org/again", "README.md")
    assert push_converted(converted / name, "org/again", **to).kept == ()
    assert hub.read("org/again", "README.md") == card


def test_digest_and_address_are_those_of_the_source(hub, to, converted):
    push_converted(converted / "encoder", "org/encoder", **to)
    card = hub.read("org/encoder", "README.md").decode()
    record = json.loads((converted / "encoder" / "conversion.json").read_text())
    assert record["source_sha256"] in card and record["origin"]["url"] in card


def test_what_was_published_opens(hub, to, converted, run_python):
    for name in ("encoder", "processor", "vocoder", "base"):
        push_converted(converted / name, f"org/{name}", **to)
    code = """
import speechprompt_hf
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor
print(AutoModel.from_pretrained("org/encoder").config.model_type)
print(AutoProcessor.from_pretrained("org/processor").fingerprint["digest"])
print(type(AutoModel.from_pretrained("org/vocoder")).__name__)
print(AutoModelForCausalLM.from_pretrained("org/base").config.fingerprint["digest"])
"""
    digest = AutoProcessor.from_pretrained(converted / "processor").fingerprint["digest"]
    assert run_python(code).stdout.split() == ["hubert", digest, "UnitHifiGan", digest]


def test_a_card_that_somebody_edited_stays(hub, to, converted):
    push_converted(converted / "encoder", "org/encoder", **to)
    text = hub.read("org/encoder", "README.md").decode()
    edited = text.replace("license: mit", "license: other").replace("A HuBERT speech encoder", "My own words")
    hub.write("org/encoder", {"README.md": edited + "\nMore of mine.\n"})
    done = push_converted(converted / "encoder", "org/encoder", **to)
    text = hub.read("org/encoder", "README.md").decode()
    assert "My own words" in text and "More of mine." in text and "license: other" in text
    assert len(done.kept) == 2


def test_a_licence_may_be_given_and_is_not_invented(hub, to, converted, tmp_path):
    push_converted(converted / "encoder", "org/encoder", license="cc-by-4.0", **to)
    assert "license: cc-by-4.0" in hub.read("org/encoder", "README.md").decode()
    Quantizer([[0.0, 1.0], [1.0, 0.0]]).save(tmp_path / "q" / "quantizer.safetensors")
    push_converted(tmp_path / "q", "org/q", **to)
    card = hub.read("org/q", "README.md").decode()
    assert "license:" not in card and "None was stated" in card and "Nothing says which file" in card


def test_other_files_of_the_folder_stay_at_home(hub, to, converted, tmp_path):
    import shutil

    folder = shutil.copytree(converted / "encoder", tmp_path / "encoder")
    for name in (".secret.json", "hub.json", "optimizer.pt", "deep/er/model.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    done = push_converted(folder, "org/encoder", **to)
    assert set(done.files) == {*(path.name for path in (converted / "encoder").iterdir()), "README.md"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.rmdir(), "there is no folder"),
        (lambda folder: None, "holds no encoder, quantizer, processor, vocoder or language model"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "speechprompt"}'), "speechprompt push"),
        (lambda folder: (folder / "quantizer.safetensors").write_bytes(b"x"), "is damaged.*convert it again"),
    ],
)
def test_what_is_no_conversion_is_refused(hub, to, tmp_path, make, words):
    (tmp_path / "x").mkdir()
    make(tmp_path / "x")
    with pytest.raises(ConfigurationError, match=words):
        push_converted(tmp_path / "x", "org/x", **to)
    assert hub.repos() == []


def test_a_repository_of_another_kind_is_refused(hub, to, converted):
    push_converted(converted / "encoder", "org/encoder", **to)
    with pytest.raises(HubError, match="holds a model of type 'hubert'"):
        push_converted(converted / "quantizer", "org/encoder", **to)
    with pytest.raises(ConfigurationError, match="is no repository id"):
        push_converted(converted / "quantizer", "no id", **to)


def test_the_command_line_publishes_what_it_converted(hub, converted, tmp_path, run_python):
    """Through a fresh process, whose client knows only the loopback Hub."""
    state = prompt_tensors(version=2, kind="deep", width=WIDTH, layers=LAYERS, vocab=UNITS + 4, num_classes=2)
    write_prompt(tmp_path / "prompt.pt", state)
    (tmp_path / "labels.json").write_text('["yes", "no"]')
    code = """
import sys, json, pathlib
from speechprompt_cli.main import main
cache, work = map(pathlib.Path, sys.argv[1:])
files = {path.name: path for path in cache.rglob("*") if path.is_file()}
for command in (
    ["quantizer", files["km.bin"], "quantizer", "--push", "org/quantizer", "--json"],
    ["gslm", files["hubert100_lm.tgz"], "lm", "--push", "org/lm", "--private"],
    ["hifigan", files["g_00500000"], "vocoder", "--push", "org/vocoder"],
    ["prompt", "prompt.pt", "adapter", "--base", "lm", "--labels", "labels.json", "--push", "org/adapter"],
):
    code = main(["convert", *map(str, command)])
    assert code == 0, command
"""
    printed = run_python(code, converted / "cache", tmp_path).stdout
    document, end = json.JSONDecoder().raw_decode(printed)
    assert document["pushed"]["repository"] == "org/quantizer"
    for name in ("lm", "vocoder", "adapter"):
        assert f"org/{name}\t{hub.commits(f'org/{name}')[0].oid}\t" in printed[end:]
    assert json.loads(hub.read("org/adapter", "config.json"))["base_model_name_or_path"] == "org/lm"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "lm").config.vocab_size == UNITS + 4
    assert AutoModel.from_pretrained(tmp_path / "adapter").config.num_labels == 2
