"""Opening by an id where the Hub cannot be reached: what is cached opens at once, what is not is named as such."""

import json
import shutil
import time

import huggingface_hub.constants
import pytest
import torch
from datasets import Dataset

from speechprompt_cli.main import main
from speechprompt_hf import DEFAULT_BASE, SpeechPromptForAudioClassification, SpeechUnitProcessor
from speechprompt_hf.core.errors import AdapterError
from speechprompt_hf.hub.push import push_adapter, push_base
from speechprompt_hf.modeling.adapter_reading import read_config
from speechprompt_hf.modeling.base_loading import base_fingerprint, load_base
from speechprompt_hf.training.experiment import base_processor
from tests.fixtures.official_prompts import prompt_tensors, write_prompt
from tests.fixtures.repositories import BASE
from tests.hub.faults import Fault

# huggingface_hub 2.4 uploads with a call that its own network library calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")

ADAPTER = "org/keywords"
START = """
import json, sys, time
# Clients that find nobody ask again, and wait before they do.
waited = []
time.sleep = waited.append
import numpy as np
from speechprompt_hf import SpeechPromptForAudioClassification
wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)


def answer(model):
    return model(**model.processor([wave], sampling_rate=16_000, return_tensors="pt")).logits[0].tolist()
"""
OPEN = (
    START
    + """
model = SpeechPromptForAudioClassification.from_pretrained(sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps([answer(model), sum(waited), sorted(model.processor.unit_encoder.hub_options)]))
"""
)
WHERE = [{}, {"revision": "v1"}, {"subfolder": "task"}]
REFUSED = (
    START
    + f"""
from speechprompt_hf.core.errors import AdapterError
for options in {WHERE}:
    try:
        SpeechPromptForAudioClassification.from_pretrained(sys.argv[1], **options)
    except AdapterError as error:
        print(error)
"""
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An adapter on the embedded base with its processor, and what it answers."""
    import numpy as np

    folder = tmp_path_factory.mktemp("adapter") / "keywords"
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    model = SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, ["yes", "no"], processor=processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    with torch.no_grad():
        logits = model(**processor([wave], sampling_rate=16_000, return_tensors="pt")).logits[0]
    return folder, logits.tolist()


@pytest.fixture
def published(hub, trained, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache of the parent"))
    push_base(DEFAULT_BASE, BASE, endpoint=hub.url, token="token")
    push_adapter(trained[0], ADAPTER, base=BASE, endpoint=hub.url, token="token")
    hub.log.clear()
    return trained[1]


NOBODY = {"HF_ENDPOINT": "http://127.0.0.1:9"}


def told(done):
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_cached_opens_at_once(hub, published, run_python, tmp_path):
    logits, _, options = told(run_python(OPEN, ADAPTER, "{}"))
    assert logits == pytest.approx(published, abs=1e-5) and options == []
    # transformers asks for chat templates of each part of a processor, which no cache answers.
    assert hub.requests("additional_chat_templates") == []
    # Encoder and centroids are the base's, and were fetched for the first recording.
    assert hub.requests(f"^GET /{BASE}/resolve/.*/encoder/model.safetensors 200")
    assert hub.requests(f"^GET /{BASE}/resolve/.*/quantizer.safetensors 200")
    logits, seconds_waited, _ = told(run_python(OPEN, ADAPTER, "{}", env=NOBODY))
    assert logits == pytest.approx(published, abs=1e-5) and seconds_waited == 0


@pytest.mark.slow
def test_the_cache_that_was_named_serves_everything(hub, published, run_python, tmp_path):
    options = {"cache_dir": str(tmp_path / "mine"), "token": "token"}
    logits, _, kept = told(run_python(OPEN, ADAPTER, json.dumps(options)))
    assert logits == pytest.approx(published, abs=1e-5) and kept == ["cache_dir", "token"]
    hub.log.clear()
    logits, _, kept = told(run_python(OPEN, ADAPTER, json.dumps({**options, "local_files_only": True})))
    assert logits == pytest.approx(published, abs=1e-5) and kept == ["cache_dir", "local_files_only", "token"]
    assert hub.log == []


@pytest.mark.slow
def test_a_forced_download_fetches_processor_and_encoder_again(hub, published, run_python):
    run_python(OPEN, ADAPTER, "{}")
    hub.log.clear()
    logits, _, _ = told(run_python(OPEN, ADAPTER, json.dumps({"force_download": True})))
    assert logits == pytest.approx(published, abs=1e-5)
    for path in (f"{ADAPTER}/resolve/.*/processor_config.json", f"{BASE}/resolve/.*/encoder/model.safetensors"):
        assert hub.requests(f"^GET /{path} 200")


@pytest.mark.slow
def test_a_cache_that_lost_a_file_is_no_processor_of_other_units(hub, published, run_python, tmp_path):
    run_python(OPEN, ADAPTER, "{}")
    (lost,) = (tmp_path / "hf_home" / "hub" / "models--org--keywords").rglob("snapshots/*/dict.txt")
    lost.unlink()
    done = run_python(OPEN, ADAPTER, "{}", env=NOBODY, check=False)
    assert done.returncode != 0 and "dict.txt" in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.slow
def test_nobody_listening_and_the_answer_of_a_hub_are_told_apart(hub, run_python):
    lines = run_python(REFUSED, "org/empty", env=NOBODY).stdout.splitlines()
    assert len(lines) == len(WHERE)
    assert all("the Hub cannot be reached, and it is not in the cache" in line for line in lines), lines
    hub.add_repo("org/empty", {"NOTES.md": "nothing"})
    hub.tag("org/empty", "v1")
    # The Hub's answer is kept: it is the same without a network.
    for environment in ({}, NOBODY):
        lines = run_python(REFUSED, "org/empty", env=environment).stdout.splitlines()
        assert len(lines) == len(WHERE)
        assert all("no config.json of it was found on the Hub (give the folder" in line for line in lines), lines


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A client of this process that finds nobody; what it would have waited, in seconds."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY["HF_ENDPOINT"])
    template = NOBODY["HF_ENDPOINT"] + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.chdir(tmp_path)
    return waited


@pytest.fixture
def speechprompt(capsys, tmp_path, monkeypatch):
    """Runs a command on units of two labels; returns its exit code and its one error."""
    units = [[1, 2, 3, index] for index in range(20)]
    rows = {"units": units, "label": ["yes", "no"] * 10}
    Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "units"))

    def run(*arguments):
        code = main(list(arguments))
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return code, error

    return run


COMMANDS = {
    "train": ["train", "--dataset", "rows.parquet", "--output", "new", "--base", "NAME"],
    "evaluate": ["evaluate", "NAME", "--dataset", "rows.parquet"],
    "predict": ["predict", "NAME", "a.wav"],
    "units": ["units", "a.wav", "--base", "NAME"],
    "prompt": ["convert", "prompt", "prompt.pt", "new", "--base", "NAME"],
}


@pytest.mark.parametrize("name", ["mistyped", "org/mistyped", "here/mistyped"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_no_folder_fails_at_once_where_nobody_answers(
    no_network, speechprompt, tmp_path, command, name
):
    (tmp_path / "here").mkdir()
    state = prompt_tensors(version=2, kind="deep", width=8, layers=1, vocab=30, num_classes=2)
    write_prompt(tmp_path / "prompt.pt", state)
    code, error = speechprompt(*(name if word == "NAME" else word for word in COMMANDS[command]))
    assert f"{name} is no folder here, the Hub cannot be reached, and it is not in the cache -> check" in error
    # Nothing that was given is known to be wrong.
    assert code == 1 and sum(no_network) == 0 and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./mistyped", "there is no folder ./mistyped"),
        ("/mistyped", "there is no folder /mistyped"),
        ("here/and/there", "there is no folder here/and/there"),
        ("mistyped/", "there is no folder mistyped/"),
        ("a name", "there is no folder a name for the base, and no Hub id has this form"),
        ("rows.parquet", "rows.parquet is a file"),
    ],
)
def test_what_can_be_no_id_is_a_mistake_and_nobody_is_asked(
    no_network, speechprompt, tmp_path, monkeypatch, name, words
):
    def ask(*arguments, **options):
        raise AssertionError("nobody may be asked")

    monkeypatch.setattr("speechprompt_hf.core.locations.get_hf_file_metadata", ask)
    code, error = speechprompt(*(name if word == "NAME" else word for word in COMMANDS["train"]))
    assert code == 2 and words in error and sum(no_network) == 0


def test_a_repository_that_the_hub_does_not_have_is_named_so(hub, no_network, speechprompt, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for command in ("train", "predict"):
        code, error = speechprompt(*("org/mistyped" if word == "NAME" else word for word in COMMANDS[command]))
        assert code == 2 and "org/mistyped is no folder here, and there is no such repository on the Hub" in error
    assert len(hub.log) == 2 and sum(no_network) == 0


def test_a_connection_that_breaks_once_is_tried_again(hub, no_network, trained, tmp_path, monkeypatch):
    """A drop is no absent network: the patient way goes on."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    hub.add_repo(ADAPTER, {path.name: path.read_bytes() for path in trained[0].iterdir()})
    hub.inject(Fault("drop", path="config.json", times=2))
    assert SpeechPromptForAudioClassification.from_pretrained(ADAPTER).config.num_labels == 2
    assert sum(no_network) > 0


def test_a_cached_base_is_opened_for_training_without_asking_for_minutes(hub, published, no_network, monkeypatch):
    names = ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE")
    nobody = {name: getattr(huggingface_hub.constants, name) for name in names}
    monkeypatch.setattr(huggingface_hub.constants, names[0], hub.url)
    monkeypatch.setattr(huggingface_hub.constants, names[1], hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    online = load_base(BASE), base_processor(BASE)
    for name in names:
        monkeypatch.setattr(huggingface_hub.constants, name, nobody[name])
    no_network.clear()
    offline = load_base(BASE), base_processor(BASE)
    assert offline[1].fingerprint == online[1].fingerprint is not None
    assert base_fingerprint(offline[0]) == base_fingerprint(online[0])
    assert sum(no_network) == 0


@pytest.fixture
def nobody_answers(monkeypatch):
    """What transformers finds where there is no network: nothing, as in a repository without the file."""
    monkeypatch.setattr("speechprompt_hf.modeling.adapter_reading.find_file", lambda *arguments, **hub: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize("where", WHERE)
def test_what_is_neither_cached_nor_reached_is_named_so(nobody_answers, monkeypatch, tmp_path, where):
    options = {"cache_dir": str(tmp_path), **where}
    with pytest.raises(AdapterError, match=rf"^{ADAPTER} is no folder here, the Hub cannot be reached, and it is not"):
        read_config(ADAPTER, **options)
    with pytest.raises(
        AdapterError, match=r"the Hub must not be asked, and it is not in the cache .*local_files_only"
    ):
        read_config(ADAPTER, **options, local_files_only=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AdapterError, match=r"the Hub must not be asked, and it is not in the cache .*HF_HUB_OFFLINE"):
        read_config(ADAPTER, **options)


@pytest.mark.parametrize("where", WHERE)
def test_a_repository_without_an_adapter_is_named_so(nobody_answers, tmp_path, where):
    commit, cache = "0" * 40, tmp_path / "models--org--keywords"
    absent = cache / ".no_exist" / commit / where.get("subfolder", "") / "config.json"
    reference = cache / "refs" / where.get("revision", "main")
    for path, content in ((absent, ""), (reference, commit)):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    with pytest.raises(AdapterError, match=r"no config\.json of it was found on the Hub \(give the folder"):
        read_config(ADAPTER, cache_dir=str(tmp_path), **where)


@pytest.mark.slow
def test_a_folder_names_a_base_that_is_fetched(hub, published, trained, run_python, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "folder")
    for path, content in {path: hub.read(ADAPTER, path) for path in hub.files(ADAPTER)}.items():
        (folder / path).write_bytes(content)
    logits, _, options = told(run_python(OPEN, folder, "{}"))
    assert logits == pytest.approx(published, abs=1e-5) and options == []
    assert hub.requests(f"^GET /{BASE}/resolve/.*/encoder/model.safetensors 200")
