"""What was converted, published through the real client: what arrives, and what the card says."""

import json
import shutil

import huggingface_hub.constants
import pytest
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor

from speechprompt_cli.main import main
from speechprompt_hf.convert.causal_lm import wrap_causal_lm
from speechprompt_hf.core.errors import ConfigurationError, HubError
from speechprompt_hf.hub import client
from speechprompt_hf.hub.push_converted import push_converted
from speechprompt_hf.processors.quantizer import Quantizer
from tests.fast.convert.conftest import LAYERS, WIDTH
from tests.fixtures.file_server import FileServer
from tests.fixtures.official_prompts import prompt_tensors, write_prompt
from tests.fixtures.published_files import UNITS, published_files, without_digests
from tests.fixtures.stock_unit_lms import save_twist, stock_model

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
    Quantizer([[0.0, 1.0], [1.0, 0.0]], {"source": "my.bin"}).save(tmp_path / "q" / "quantizer.safetensors")
    push_converted(tmp_path / "q", "org/q", **to)
    card = hub.read("org/q", "README.md").decode()
    assert "license:" not in card and "None was stated" in card and "my.bin" in card
    (shutil.copytree(converted / "vocoder", tmp_path / "v") / "conversion.json").write_text("{}")
    push_converted(tmp_path / "v", "org/v", **to)
    assert "Nothing says which file" in hub.read("org/v", "README.md").decode()


def test_other_files_of_the_folder_stay_at_home(hub, to, converted, tmp_path):
    folder = shutil.copytree(converted / "encoder", tmp_path / "encoder")
    for name in (".secret.json", "hub.json", "optimizer.pt", "deep/er/model.safetensors", "notes.json", "private.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    done = push_converted(folder, "org/encoder", **to)
    assert set(done.files) == {*(path.name for path in (converted / "encoder").iterdir()), "README.md"}


def test_links_are_not_followed_out_of_the_folder(hub, to, converted, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    folder = shutil.copytree(converted / "encoder", tmp_path / "encoder")
    (folder / "preprocessor_config.json").unlink()
    (folder / "preprocessor_config.json").symlink_to(secret)
    assert "preprocessor_config.json" not in push_converted(folder, "org/encoder", **to).files
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(converted / "encoder" / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"lacks model\.safetensors.*links"):
        push_converted(folder, "org/other", **to)
    processor = shutil.copytree(converted / "processor", tmp_path / "processor")
    shutil.rmtree(processor / "encoder")
    (processor / "encoder").symlink_to(converted / "processor" / "encoder")
    with pytest.raises(ConfigurationError, match=r"lacks encoder/config\.json, encoder/model\.safetensors"):
        push_converted(processor, "org/other", **to)
    lm = shutil.copytree(converted / "lm", tmp_path / "lm")
    (lm / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match=rf"{lm} lacks model\.safetensors"):
        push_converted(lm, "org/other", **to)
    assert hub.repos() == ["org/encoder"]


def test_the_folder_of_a_language_model_gets_no_card_and_remembers_its_repository(hub, to, converted, tmp_path):
    folder = shutil.copytree(converted / "lm", tmp_path / "lm", ignore=shutil.ignore_patterns("README.md", "hub.json"))
    before = {path.name for path in folder.iterdir()}
    done = push_converted(folder, "org/lm", **to)
    assert {path.name for path in folder.iterdir()} == {*before, "hub.json"}
    assert json.loads((folder / "hub.json").read_text()) == {"repo_id": "org/lm", "commit": done.commit}
    (folder / "README.md").write_text("My own words.\n")
    push_converted(folder, "org/mine", **to)
    assert (folder / "README.md").read_text() == "My own words.\n"
    assert "My own words." in hub.read("org/mine", "README.md").decode()


def test_the_card_of_a_wrapped_language_model_has_the_digest_of_every_file(hub, to, tmp_path):
    save_twist(stock_model("opt"), tmp_path / "twist")
    record = wrap_causal_lm(tmp_path / "twist", tmp_path / "base")
    push_converted(tmp_path / "base", "org/base", **to)
    card = hub.read("org/base", "README.md").decode()
    assert record["source_sha256"]["model.safetensors"] in card and "SHA-256 of model.safetensors" in card


def config_of(model_type, record=None):
    def make(folder):
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        if record is not None:
            (folder / "conversion.json").write_text(json.dumps(record))

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.rmdir(), "there is no folder"),
        (lambda folder: None, "holds no encoder, quantizer, processor, vocoder or language model"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "speechprompt"}'), "speechprompt push"),
        (config_of("bert", {}), "holds no encoder, .* but a model of type 'bert'"),
        (config_of(["hubert"], {}), "holds no encoder, .* but a model of type"),
        (config_of("hubert"), r"nothing in .* says that it was converted: there is no conversion\.json"),
        (config_of("gslm"), r"nothing in .* says that it was converted.*push-base"),
        (config_of("hubert", []), r"conversion\.json in .* is damaged"),
        (config_of("hubert", {"origin": 3}), r"conversion\.json in .* is damaged"),
        (config_of("unit_hifigan", {}), r"lacks model\.safetensors"),
        (
            lambda folder: Quantizer([[0.0], [1.0]]).save(folder / "quantizer.safetensors"),
            "nothing in .* says that it was converted",
        ),
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
