"""`convert … --push` finds out first whether it may publish; what failed afterwards is published by `push-base`."""

import json
import shlex
import shutil

import huggingface_hub.constants
import pytest
from transformers import AutoProcessor

from speechprompt_cli.main import main
from speechprompt_hf import DEFAULT_BASE, SpeechUnitProcessor
from speechprompt_hf.core.embedded import resolve_base
from speechprompt_hf.hub import client
from tests.fast.convert.conftest import LAYERS, WIDTH
from tests.fixtures.official_prompts import prompt_tensors, write_prompt
from tests.fixtures.published_files import UNITS, without_digests, write_files
from tests.fixtures.stock_unit_lms import save_twist, stock_model
from tests.hub.loopback import Account, Fault

# huggingface_hub 2.4 uploads with a call that its own network library calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def client_of_the_loopback(hub, monkeypatch, tmp_path):
    """This process's client knows the loopback Hub alone, and is logged in there."""
    for name, value in {
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "token")
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Stand-ins of the published files, and a folder of each kind."""
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        without_digests(patch)
        files = write_files(work / "files")
        for command in (
            ["encoder", files["hubert_base_ls960.pt"], work / "encoder"],
            ["quantizer", files["km.bin"], work / "quantizer"],
            ["processor", "hubert-base-km100", work / "encoder", work / "quantizer", work / "processor"],
            ["gslm", files["hubert100_lm.tgz"], work / "lm"],
            ["base", work / "lm", work / "processor", work / "base"],
            ["hifigan", files["g_00500000"], work / "vocoder"],
        ):
            assert main(["convert", *map(str, command)]) == 0, command
    files["checkpoint_best.pt"] = work / "prompt.pt"
    write_prompt(
        work / "prompt.pt",
        prompt_tensors(version=2, kind="deep", width=WIDTH, layers=LAYERS, vocab=UNITS + 4, num_classes=2),
    )
    (work / "labels.json").write_text('["yes", "no"]')
    save_twist(stock_model("opt"), work / "twist")
    return work


@pytest.fixture
def conversions(work, monkeypatch):
    """The arguments of a conversion of each kind, without its destination."""
    without_digests(monkeypatch)
    files = {path.name: path for path in (work / "files").rglob("*") if path.is_file()}
    return {
        "encoder": [files["hubert_base_ls960.pt"]],
        "quantizer": [files["km.bin"]],
        "processor": ["hubert-base-km100", work / "encoder", work / "quantizer"],
        "gslm": [files["hubert100_lm.tgz"]],
        "base": [work / "lm", work / "processor"],
        "causal-lm": [work / "twist"],
        "hifigan": [files["g_00500000"]],
        "prompt": [work / "prompt.pt"],
    }


@pytest.fixture
def speechprompt(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, " ".join(printed.err.replace("│", " ").split())

    return run


@pytest.fixture
def convert(speechprompt, conversions, work, tmp_path):
    """Converts with `--push org/new`, and returns exit code, output and messages."""

    def run(kind, *options):
        if kind == "prompt":
            options = (*options, "--base", work / "lm", "--labels", work / "labels.json")
        return speechprompt("convert", kind, *conversions[kind], tmp_path / "new", "--push", "org/new", *options)

    return run


def slow(*kinds):
    return [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


KINDS = ["quantizer", "causal-lm", "prompt", *slow("encoder", "processor", "gslm", "base", "hifigan")]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_login_nothing_is_converted(convert, hub, monkeypatch, tmp_path, kind):
    monkeypatch.delenv("HF_TOKEN")
    code, out, err = convert(kind)
    assert (code, out) == (2, "") and "cannot push to org/new: you are not logged in -> run `hf auth login`" in err
    assert not (tmp_path / "new").exists() and hub.repos() == []


def test_a_token_that_is_none_or_only_reads_is_refused_first(convert, hub, monkeypatch, tmp_path):
    for token, words in (("nobodys", "refused it (401)"), ("reader", "the token of reader may only read")):
        monkeypatch.setenv("HF_TOKEN", token)
        code, _, err = convert("gslm")
        assert code == 2 and words in err and "hf auth login" in err
    assert not (tmp_path / "new").exists() and hub.repos() == []


def test_a_repository_of_somebody_else_is_refused_first(convert, hub, monkeypatch, tmp_path):
    hub.add_repo("org/new")
    hub.accounts["mine"] = Account("me", frozenset({"me"}))
    monkeypatch.setenv("HF_TOKEN", "mine")
    code, _, err = convert("gslm")
    assert code == 2 and "cannot push to org/new: the Hub refused it (403)" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_repository_of_another_kind_is_refused_first(convert, hub, tmp_path, kind):
    hub.add_repo("org/new", {"config.json": '{"model_type": "bert"}'})
    code, _, err = convert(kind)
    assert code == 2 and "org/new holds a model of type 'bert', which a push would overwrite" in err
    assert not (tmp_path / "new").exists()


def test_a_hub_that_cannot_be_reached_is_a_failure_and_known_first(convert, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    code, _, err = convert("gslm")
    assert code == 1 and "the connection failed" in err and err.count("error:") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["processor", "gslm", *slow("encoder", "quantizer", "base", "causal-lm", "hifigan")])
def test_what_failed_to_be_published_is_published_by_the_command_of_the_note(
    convert, speechprompt, hub, tmp_path, kind
):
    hub.inject(Fault("status", path="/commit/", method="POST", status=500))
    code, out, err = convert(kind, "--private")
    assert (code, out) == (1, "") and "org/new" in hub.repos()
    assert f"converted, but not published: the result is in {tmp_path / 'new'};" in err
    words = shlex.split(err.split("to publish it: ")[1].split(" error: ")[0])
    assert words[:2] == ["speechprompt", "push-base"] and words[-1] == "--private"
    code, out, err = speechprompt(*words[1:])
    assert code == 0, err
    assert out.startswith(f"org/new\t{hub.commits('org/new')[0].oid}\t")
    for path in (path for path in (tmp_path / "new").rglob("*.safetensors")):
        assert hub.read("org/new", path.relative_to(tmp_path / "new").as_posix()) == path.read_bytes()
    # What the conversion recorded is in the card, as if the first push had not failed.
    card = hub.read("org/new", "README.md").decode()
    assert "Nothing says which file it was made of." not in card


def test_a_prompt_whose_push_failed_is_published_by_push(convert, speechprompt, work, hub, tmp_path):
    assert speechprompt("push-base", work / "lm", "org/lm")[0] == 0
    hub.inject(Fault("status", path="/commit/", method="POST", status=500))
    code, _, err = convert("prompt")
    assert code == 1
    command = shlex.split(err.split("to publish it: ")[1].split(" error: ")[0])
    assert command == ["speechprompt", "push", str(tmp_path / "new"), "org/new"]
    assert speechprompt(*command[1:])[0] == 0
    assert json.loads(hub.read("org/new", "config.json"))["base_model_name_or_path"] == "org/lm"


def test_an_interrupted_push_names_the_command_too(convert, monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("speechprompt_hf.hub.push_converted.push_converted", interrupt)
    code, _, err = convert("quantizer")
    assert code == 130 and f"to publish it: speechprompt push-base {tmp_path / 'new'} org/new" in err
    assert (tmp_path / "new" / "quantizer.safetensors").is_file()


# push-base


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("encoder", "A HuBERT speech encoder"),
        ("quantizer", "A k-means quantizer"),
        ("processor", "An encoder and a quantizer"),
        ("vocoder", "A vocoder"),
        ("lm", "## Source"),
        ("base", "## Source"),
    ],
)
def test_push_base_publishes_whatever_was_converted(speechprompt, hub, work, kind, words):
    code, out, err = speechprompt("push-base", work / kind, f"org/{kind}", "--message", "mine", "--json")
    assert code == 0, err
    assert json.loads(out)["commit"] == hub.commits(f"org/{kind}")[0].oid
    assert hub.commits(f"org/{kind}")[0].title == "mine"
    assert words in hub.read(f"org/{kind}", "README.md").decode()


def test_push_base_publishes_a_base_that_was_not_converted(speechprompt, hub, work, tmp_path):
    assert speechprompt("push-base", DEFAULT_BASE, "org/embedded")[0] == 0
    folder = shutil.copytree(resolve_base(DEFAULT_BASE), tmp_path / "base")
    # As pretrain leaves it beside an encoder that was converted.
    shutil.copy(work / "encoder" / "conversion.json", folder / "encoder" / "conversion.json")
    assert speechprompt("push-base", folder, "org/base")[0] == 0
    assert "## Source" not in hub.read("org/base", "README.md").decode()
    assert set(hub.files("org/base")) - set(hub.files("org/embedded")) == {"encoder/conversion.json"}
    assert speechprompt("push-base", work / "twist", "org/twist")[0] == 0
    assert json.loads(hub.read("org/twist", "config.json"))["model_type"] == "unit_causal_lm"


@pytest.mark.slow
def test_push_base_publishes_a_processor_that_was_fitted_here(speechprompt, hub, tmp_path, run_python):
    SpeechUnitProcessor.from_pretrained(DEFAULT_BASE).save_pretrained(tmp_path / "mine", save_encoder=True)
    assert speechprompt("push-base", tmp_path / "mine", "org/mine")[0] == 0
    assert "Nothing says which file it was made of." in hub.read("org/mine", "README.md").decode()
    code = """
from speechprompt_hf import SpeechUnitProcessor
encoder = SpeechUnitProcessor.from_pretrained("org/mine").unit_encoder
encoder.load()
print(encoder.fingerprint["digest"])
"""
    digest = AutoProcessor.from_pretrained(tmp_path / "mine").fingerprint["digest"]
    assert run_python(code).stdout.split() == [digest]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "there is no folder"),
        (lambda folder: folder.mkdir(), "holds no encoder, quantizer, processor, vocoder or language model -> give"),
        (lambda folder: config_of(folder, "speechprompt"), "holds an adapter -> speechprompt push"),
        (lambda folder: config_of(folder, "bert"), "but a model of type 'bert'"),
        (lambda folder: config_of(folder, "hubert"), "nothing in"),
    ],
)
def test_push_base_refuses_anything_else(speechprompt, hub, tmp_path, make, words):
    make(tmp_path / "x")
    code, out, err = speechprompt("push-base", tmp_path / "x", "org/x")
    assert (code, out) == (2, "") and words in err and hub.log == []


def config_of(folder, model_type):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def test_a_mistyped_adapter_is_named_before_the_hub_is_asked(speechprompt, hub, tmp_path):
    code, _, err = speechprompt("push", tmp_path / "absent", "org/x")
    assert code == 2 and "there is no folder" in err and hub.log == []
