"""`speechprompt convert`: every kind from a file, an archive and a name, the list, and what is said of mistakes."""

import hashlib
import json
import shutil
import time

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor, pipeline

from speechprompt_cli.commands.convert_work import _download_bar
from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.vocabulary import UnitVocabulary
from tests.fast.cli.test_help import FORBIDDEN, help_of
from tests.fast.convert.conftest import LAYERS, WIDTH
from tests.fixtures.file_server import FileServer, Response
from tests.fixtures.official_prompts import prompt_tensors, write_prompt
from tests.fixtures.published_files import FEATURES, UNITS, published_files, without_digests, write_files

RECORD = {
    "kind": str,
    "name": str,
    "url": str,
    "sha256": (str, type(None)),
    "companion_url": (str, type(None)),
    "companion_sha256": (str, type(None)),
    "units": (str, type(None)),
    "encoder": (str, type(None)),
    "layer": (int, type(None)),
    "num_units": (int, type(None)),
    "licence": (str, type(None)),
    "converted": bool,
    "reason": (str, type(None)),
    "belongs_with": dict,
}


@pytest.fixture
def server():
    with FileServer(published_files()) as server:
        yield server


@pytest.fixture
def convert(speechprompt, server, monkeypatch, tmp_path):
    """Runs `speechprompt convert` with the stand-ins in the place of the published files."""
    without_digests(monkeypatch)

    def run(*arguments):
        monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("SPEECHPROMPT_MIRROR", server.url)
        return speechprompt("convert", *arguments)

    return run


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path / "files")


def ok(answer):
    assert answer.code == 0, answer.err
    return answer


def refused(answer, code=2):
    assert answer.code == code, answer.out + answer.err
    assert "Traceback" not in answer.err
    return " ".join(answer.err.replace("│", " ").split())


def test_the_list_is_readable_at_80_columns(convert):
    lines = ok(convert("--list")).out.splitlines()
    assert max(map(len, lines)) < 80
    text = " ".join(" ".join(lines).split())
    for words in ("hubert-base-km100", "not pinned", "not stated", "not converted: CPC", "pGSLM", "--list --json"):
        assert words in text
    heads = [line for line in lines if line.split() == ["layer", "units", "SHA-256", "licence"]]
    assert len(heads) == 5


def test_the_list_as_json_has_a_schema(speechprompt, monkeypatch):
    monkeypatch.delenv("SPEECHPROMPT_MIRROR", raising=False)
    printed = ok(speechprompt("convert", "--list", "--json")).json
    assert set(printed) == {"entries", "not_listed"}
    for entry in printed["entries"]:
        assert set(entry) == set(RECORD)
        assert all(isinstance(entry[name], kinds) for name, kinds in RECORD.items())
        assert entry["url"].startswith("https://dl.fbaipublicfiles.com/")
    (lm,) = [each for each in printed["entries"] if (each["kind"], each["name"]) == ("gslm", "hubert-base-km100")]
    assert lm["belongs_with"]["hifigan"] == ["hubert-base-km100-lj"]


def test_a_mirror_takes_the_place_of_the_publishers(convert, server):
    entries = ok(convert("--list", "--json")).json["entries"]
    assert all(entry["url"].startswith(server.url) for entry in entries)


def test_the_list_stands_alone(convert):
    assert "--list stands alone" in refused(convert("--list", "gslm", "a", "b"))
    assert "name what SOURCE is, or give --list" in refused(convert("--json"))


def test_no_words_show_help(convert):
    assert "Usage: speechprompt convert" in convert().out


@pytest.mark.parametrize(
    ("kind", "name", "file"),
    [
        ("encoder", "hubert-base", "hubert_base_ls960.pt"),
        ("quantizer", "hubert-base-km100", "km.bin"),
        ("gslm", "hubert-base-km100", "hubert100_lm.tgz"),
        ("hifigan", "hubert-base-km100-lj", "g_00500000"),
        ("unit-mbart", "mhubert-base-km1000", "checkpoint.pt"),
    ],
)
def test_a_name_and_its_file_give_the_same(convert, server, files, tmp_path, kind, name, file):
    by_name = ok(convert(kind, name, tmp_path / "name", "--json"))
    # Its dictionary lies in the folder above, where nobody looks.
    given = ["--dict", files["dict.txt"]] if kind == "unit-mbart" else []
    by_file = ok(convert(kind, files[file], tmp_path / "file", "--json", *given))
    weights = [next((tmp_path / each).glob("*.safetensors")) for each in ("name", "file")]
    if kind != "quantizer":  # which keeps the address beside the centroids
        assert weights[0].read_bytes() == weights[1].read_bytes()
        record = json.loads((tmp_path / "name" / "conversion.json").read_text())
        assert record["origin"] == by_name.json["origin"]
    origin = by_name.json["origin"]
    assert origin["url"].startswith(server.url) and origin["licence"] == "mit"
    alone = {"file": file, "sha256": origin["sha256"]}
    if kind in ("hifigan", "unit-mbart"):
        companion = origin["companion"]
        beside = "config.json" if kind == "hifigan" else "dict.txt"
        alone["companion"] = {"file": beside, "sha256": hashlib.sha256(files[beside].read_bytes()).hexdigest()}
        assert companion == {**alone["companion"], "url": companion["url"], "verified": "size"}
        assert companion["url"].startswith(server.url) and companion["url"].endswith(f"/{beside}")
        words = f"{beside} is whole; nobody pinned its SHA-256, which is recorded now: {companion['sha256']}"
        assert words in " ".join(by_name.err.split())
    assert by_file.json["origin"] == alone
    assert "nobody pinned its SHA-256, which is recorded now" in by_name.err and "licence: mit" in by_name.err
    assert {path.name for path in tmp_path.iterdir()} == {"name", "file", "files", "cache"}
    asked = len(server.requests)
    again = ok(convert(kind, name, tmp_path / "again"))
    assert len(server.requests) == asked
    assert "has the SHA-256 that is pinned or recorded" in again.err


def test_the_parts_become_a_base(convert, tmp_path):
    ok(convert("encoder", "hubert-base", tmp_path / "encoder"))
    ok(convert("quantizer", "hubert-base-km100", tmp_path / "quantizer"))
    made = ok(
        convert("processor", "hubert-base-km100", tmp_path / "encoder", tmp_path / "quantizer", tmp_path / "processor")
    )
    assert made.out == f"{tmp_path / 'processor'}\t{UNITS} units\tlayer 6 of hubert-base\n"
    assert "nothing shows that this encoder is the published one" in made.err
    ok(convert("gslm", "hubert-base-km100", tmp_path / "lm"))
    joined = ok(convert("base", tmp_path / "lm", tmp_path / "processor", tmp_path / "base", "--json")).json
    processor = AutoProcessor.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.config.fingerprint["digest"] == processor.fingerprint["digest"] == joined["digest"]
    # The language model's own order of units, which is not the numeric one here.
    text = (tmp_path / "base" / "dict.txt").read_text()
    assert text == (tmp_path / "lm" / "dict.txt").read_text()
    first = [int(line.split()[0]) for line in text.splitlines()]
    assert processor.tokenizer.input_ids([first[3], first[5]])[1:3] == [7, 9]
    wave = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert processor([wave], sampling_rate=16000)["input_ids"]


@pytest.fixture
def parts(convert, tmp_path):
    """A language model and a processor that fit, in the folders `lm` and `processor`."""
    ok(convert("encoder", "hubert-base", tmp_path / "encoder"))
    ok(convert("quantizer", "hubert-base-km100", tmp_path / "quantizer"))
    folders = [tmp_path / name for name in ("encoder", "quantizer", "processor")]
    ok(convert("processor", "hubert-base-km100", *folders))
    ok(convert("gslm", "hubert-base-km100", tmp_path / "lm"))
    return tmp_path / "lm", tmp_path / "processor"


def test_a_prompt_on_a_base_with_a_processor_reads_recordings(convert, speechprompt, parts, tmp_path):
    ok(convert("base", *parts, tmp_path / "base"))
    adapter, (recording, waveform) = tmp_path / "adapter", sound(tmp_path / "a.wav")
    answer = ok(convert("prompt", *prompt_of(tmp_path), "--base", tmp_path / "base"))
    assert "has no processor" not in answer.err
    assert json.loads((adapter / "conversion.json").read_text())["reads"] == "recordings"
    label = ok(speechprompt("predict", adapter, recording, "--json")).json
    processor = AutoProcessor.from_pretrained(adapter)
    # The base's order of units, which is not the numeric one here, and its encoder, which is not copied.
    assert processor.tokenizer.vocabulary == UnitVocabulary.from_dict_txt(tmp_path / "lm" / "dict.txt")
    assert not (adapter / "encoder").exists()
    model = AutoModel.from_pretrained(adapter)
    with torch.no_grad():
        logits = model(**processor([waveform], sampling_rate=16000, return_tensors="pt")).logits[0]
    best = model.config.id2label[int(logits.argmax())]
    assert best in json.dumps(label)
    (answered, *_) = pipeline("audio-classification", model=str(adapter))(str(recording))
    assert answered["label"] == best
    assert type(AutoFeatureExtractor.from_pretrained(adapter)).__name__ == "SpeechUnitFeatureExtractor"


def test_a_prompt_on_a_language_model_alone_is_said_to_read_units(convert, speechprompt, tmp_path):
    ok(convert("gslm", "hubert-base-km100", tmp_path / "lm"))
    answer = ok(convert("prompt", *prompt_of(tmp_path), "--base", tmp_path / "lm", "--json"))
    assert answer.json["reads"] == "units" and "lm has no processor, so the adapter reads units" in answer.err
    assert not (tmp_path / "adapter" / "processor_config.json").exists()


def test_a_dictionary_of_another_order_than_the_processor_s_is_refused(convert, parts, tmp_path):
    ok(convert("base", *parts, tmp_path / "base"))
    (tmp_path / "dict.txt").write_text("".join(f"{unit} 1\n" for unit in range(UNITS)))
    options = ["--base", tmp_path / "base", "--dict", tmp_path / "dict.txt"]
    assert "the same in another order" in refused(convert("prompt", *prompt_of(tmp_path), *options))
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("cut", "model.safetensors cannot be read"),
        ("gone", "lm has no model.safetensors"),
        ("narrower", "its config.json claims"),
        ("adapter", "lm holds an adapter, no language model over units"),
        ("file", "lm is a file, no folder"),
    ],
)
def test_a_base_is_not_made_of_a_language_model_that_cannot_be_read(convert, parts, tmp_path, harm, words):
    lm, processor = parts
    weights = lm / "model.safetensors"
    config = json.loads((lm / "config.json").read_text())
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif harm == "gone":
        weights.unlink()
    elif harm == "file":
        shutil.rmtree(lm)
        lm.write_text("")
    else:
        changes = {"intermediate_size": 8} if harm == "narrower" else {"model_type": "speechprompt"}
        (lm / "config.json").write_text(json.dumps({**config, **changes}))
    assert words in refused(convert("base", lm, processor, tmp_path / "base"))
    assert not (tmp_path / "base").exists()


def test_a_setting_of_a_vocoder_that_nobody_knows_is_named(convert, files, tmp_path):
    settings = json.loads(files["config.json"].read_text())
    files["config.json"].write_text(json.dumps({**settings, "style_dim": 64, "lr_decay": 0.9}))
    answer = ok(convert("hifigan", files["g_00500000"], tmp_path / "vocoder", "--json"))
    assert answer.json["settings_not_known"] == ["style_dim"]
    assert "lr_decay" in answer.json["settings_left_out"] and "style_dim" not in answer.json["settings_left_out"]
    assert "not known, and passed over: 1 settings (style_dim)" in answer.err


def test_a_base_refuses_parts_that_do_not_fit(convert, tmp_path):
    processor = resolve_base(DEFAULT_BASE)
    ok(convert("gslm", "hubert-base-km100", tmp_path / "lm"))
    message = refused(convert("base", tmp_path / "lm", processor, tmp_path / "base"))
    assert f"has {UNITS} units, the processor" in message and "makes 100" in message and "--list" in message
    message = refused(convert("base", tmp_path / "lm", tmp_path / "lm", tmp_path / "base"))
    assert "has no processor_config.json" in message
    message = refused(convert("base", tmp_path, processor, tmp_path / "base"))
    assert "has no config.json -> give what speechprompt convert gslm, unit-mbart or causal-lm wrote" in message
    assert not (tmp_path / "base").exists()


def test_the_long_known_forms_go_on_working(convert, files, tmp_path):
    answer = ok(convert("quantizer", files["km.bin"], tmp_path / "q"))
    assert answer.out == f"{tmp_path / 'q' / 'quantizer.safetensors'}\t{UNITS} units\t{FEATURES} features\n"
    message = refused(convert("quantizer", files["km.bin"], tmp_path / "q"))
    assert "holds a quantizer" in message and "--overwrite" in message
    ok(convert("quantizer", files["km.bin"], tmp_path / "q", "--overwrite"))
    import tarfile

    with tarfile.open(files["hubert100_lm.tgz"]) as archive:
        archive.extractall(tmp_path, filter="data")
    checkpoint = tmp_path / "hubert100_lm" / "checkpoint_best.pt"
    (tmp_path / "other.txt").write_bytes((tmp_path / "hubert100_lm" / "dict.txt").read_bytes())
    (tmp_path / "hubert100_lm" / "dict.txt").unlink()
    assert "--dict" in refused(convert("gslm", checkpoint, tmp_path / "lm"))
    answer = ok(convert("gslm", checkpoint, tmp_path / "lm", "--dict", tmp_path / "other.txt", "--dtype", "float16"))
    assert answer.out.startswith(f"{tmp_path / 'lm'}\t{UNITS} units\t")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "lm").dtype == torch.float16


def test_a_prompt_becomes_an_adapter(convert, tmp_path):
    ok(convert("gslm", "hubert-base-km100", tmp_path / "lm"))
    state = prompt_tensors(version=2, kind="deep", width=WIDTH, layers=LAYERS, vocab=UNITS + 4, num_classes=3)
    path = write_prompt(tmp_path / "checkpoint_best.pt", state)
    (tmp_path / "labels.json").write_text('["yes", "no", "stop"]')
    options = ["--base", tmp_path / "lm", "--labels", tmp_path / "labels.json"]
    answer = ok(convert("prompt", path, tmp_path / "adapter", *options))
    assert answer.out.startswith(f"{tmp_path / 'adapter'}\t3 classes\t")
    assert list(AutoModel.from_pretrained(tmp_path / "adapter").config.id2label.values()) == ["yes", "no", "stop"]
    assert "labels" in refused(convert("prompt", path, tmp_path / "again", "--base", tmp_path / "lm"))


def prompt_of(folder):
    """A prompt of v2, the new folder `adapter`, and the option with its labels."""
    state = prompt_tensors(version=2, kind="deep", width=WIDTH, layers=LAYERS, vocab=UNITS + 4, num_classes=3)
    (folder / "labels.json").write_text('["yes", "no", "stop"]')
    path = write_prompt(folder / "checkpoint_best.pt", state)
    return path, folder / "adapter", "--labels", folder / "labels.json"


def sound(path):
    waveform = (np.random.default_rng(0).standard_normal(16000) * 0.1).astype(np.float32)
    soundfile.write(path, waveform, 16000, subtype="FLOAT")
    return path, waveform


def test_a_download_shows_its_progress_on_standard_error(convert, tmp_path, capsys, monkeypatch):
    answer = ok(convert("gslm", "hubert-base-km100", tmp_path / "lm", "--json"))
    assert "hubert100_lm.tgz ━" in answer.err and " kB " in answer.err
    assert json.loads(answer.out)["units"] == UNITS
    monkeypatch.setenv("COLUMNS", "100")
    with _download_bar("km.bin") as report:
        for done in range(0, 11):
            report(done * 10**6, 10**7)
            time.sleep(0.01)
    assert "10.0/10.0 MB" in (printed := capsys.readouterr().err) and "MB/s" in printed


def test_a_connection_that_breaks_goes_on_at_the_next_call(convert, server, tmp_path, monkeypatch):
    monkeypatch.setattr("speechprompt_hf.convert.download.time.sleep", lambda seconds: None)
    server.next = [Response(stop_after=5000), *[Response(stop_after=0)] * 3]
    message = refused(convert("gslm", "hubert-base-km100", tmp_path / "lm"), code=1)
    assert "broke off after 5000 bytes" in message and "try again: the download goes on from there" in message
    assert not (tmp_path / "lm").exists()
    ok(convert("gslm", "hubert-base-km100", tmp_path / "lm"))
    assert server.requests[-1][1] == "bytes=5000-"


def test_what_the_publishers_pinned_is_held_against_a_mirror(speechprompt, server, tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))
    message = refused(
        speechprompt("convert", "quantizer", "hubert-base-km100", tmp_path / "q", "--mirror", server.url)
    )
    assert "f14a3104615485381fc489701d6761c9abbdbb0d43607cf55518a1e2891023fe is pinned" in message
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gslm", "hubert-base-kn100", "new"], "did you mean hubert-base-km100"),
        (["gslm", "absent.pt", "new"], "there is no file absent.pt"),
        (["encoder", "cpc-big", "new"], "CPC is no encoder of transformers"),
        (["encoder", "mhubert-base", "new"], "the server has no"),
        (["encoder", "hubert-base", "new", "--push", "no id!"], "is no repository id"),
        (["encoder", "hubert-base", "full"], "exists and is no empty folder"),
        (["processor", "hubert-base-km101", "a", "b", "new"], "there is hubert-base-km100"),
        (["quantizer", "hubert-base", "new"], "speechprompt convert encoder hubert-base"),
        (["gslm", "full", "new"], "is a folder -> give the checkpoint in it"),
        (
            ["gslm", "/dev/null", "new"],
            "/dev/null is a device, a pipe or a socket, no file -> give the checkpoint itself",
        ),
        (["gslm", "empty.pt", "new"], "empty.pt is empty -> download or copy it again"),
        (["causal-lm", "empty.pt", "new"], "empty.pt is a file, no folder -> give a folder that transformers saved"),
        (["causal-lm", "absent.pt", "new"], "there is no folder absent.pt"),
        (["tarot", "a", "new"], "No such command 'tarot'"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(convert, server, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "empty.pt").write_text("")
    (tmp_path / "full" / "something").write_text("")
    assert words in refused(convert(*arguments))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "kind", ["encoder", "quantizer", "processor", "gslm", "causal-lm", "base", "unit-mbart", "hifigan", "prompt"]
)
def test_every_option_of_every_kind_is_explained(kind):
    import typer

    from speechprompt_cli.main import app

    command = typer.main.get_command(app).commands["convert"].commands[kind]
    assert all(getattr(parameter, "help", None) for parameter in command.params)
    assert len(command.help) > 50


def test_help_of_a_kind_imports_no_model_library():
    text, record = help_of("convert", "gslm")
    assert record["code"] == 0 and "--dict" in text and "--overwrite" not in text
    assert not [name for name in record["modules"] if name.split(".")[0] in FORBIDDEN]


def test_a_conversion_writes_what_opens(convert, files, tmp_path):
    ok(convert("encoder", files["hubert_base_ls960.pt"], tmp_path / "encoder"))
    assert AutoModel.from_pretrained(tmp_path / "encoder").config.hidden_size == FEATURES
    ok(convert("hifigan", files["g_00500000"], tmp_path / "vocoder"))
    assert type(AutoModel.from_pretrained(tmp_path / "vocoder")).__name__ == "UnitHifiGan"


def test_a_server_that_cannot_be_reached_is_a_failure_and_no_mistake(speechprompt, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    answer = speechprompt("convert", "encoder", "hubert-base", tmp_path / "encoder", "--mirror", "http://127.0.0.1:9/")
    assert answer.code == 1 and answer.err.count("error:") == 1
    assert not (tmp_path / "encoder").exists()


def test_a_quantizer_goes_into_no_foreign_folder(speechprompt, tmp_path):
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "config.json").write_text("{}")
    answer = speechprompt("convert", "quantizer", tmp_path / "km.bin", tmp_path / "lm")
    assert answer.code == 2 and [path.name for path in (tmp_path / "lm").iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is a folder"), (b"", "is empty"), (b"abcd", "no file of torch.save")]
)
def test_what_is_no_checkpoint_is_named(speechprompt, tmp_path, content, message):
    path = tmp_path / "checkpoint.pt"
    path.mkdir() if content is None else path.write_bytes(content)
    (tmp_path / "dict.txt").write_text("0 1\n")
    answer = speechprompt("convert", "gslm", path, tmp_path / "lm", "--dict", tmp_path / "dict.txt")
    assert answer.code == 2 and message in answer.err
    answer = speechprompt("convert", "encoder", path, tmp_path / "encoder")
    assert answer.code == 2 and message in answer.err
