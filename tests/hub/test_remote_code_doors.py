"""Readers without this package open an adapter with the code that its base carries, from folders and from the Hub."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechprompt_hf import DEFAULT_BASE, SpeechPromptForAudioClassification, SpeechUnitProcessor
from speechprompt_hf.core.embedded import resolve_base
from speechprompt_hf.hub.remote_code import add_remote_code, refer_to_remote_code
from tests.hub.conftest import NOT_INSTALLED
from tests.hub.loopback import LoopbackHub

LABELS = ["no", "stop", "yes"]
BASE, ADAPTER = "org/base", "org/adapter"

# Imports cost seconds, and a class that one door registers opens the next one: each door runs in a fork of a process
# that has imported transformers and nothing of ours.
FORKS = """
import json, os, sys, traceback
import numpy as np, peft, torch, transformers as tf
from huggingface_hub.constants import HF_HOME

transformers_modules = os.path.join(HF_HOME, "modules", "transformers_modules")
T = {"trust_remote_code": True}
wave = np.load("wave.npy")
place = lambda thing: [type(thing).__module__, type(thing).__name__]

def inputs(processor=None):
    ids = torch.tensor(json.load(open("want.json"))["ids"])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

def logits(model):
    with torch.no_grad():
        return model(**inputs()).logits.tolist()

def ours():
    return sorted(name for name in sys.modules if name.split(".")[0].startswith(("speechprompt", "modeling")))

def each_in_a_fork(doors):
    for name, door in doors.items():
        sys.stdout.flush()
        child = os.fork()
        if not child:
            try:
                print("DOOR " + json.dumps([name, door()]))
            except BaseException as error:
                traceback.print_exc()
                print("DOOR " + json.dumps([name, {"error": type(error).__name__, "text": str(error)}]))
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
"""

DOORS = """
adapter, base = sys.argv[1:]

def of_model(door):
    def open_it():
        model = getattr(tf, door).from_pretrained(adapter, **T)
        return {"class": place(model), "logits": logits(model), "labels": model.config.id2label, "ours": ours()}
    return open_it

def processor():
    processor = tf.AutoProcessor.from_pretrained(adapter, **T)
    features = processor([wave], sampling_rate=16000, return_tensors="pt")
    return {"class": place(processor), "ids": features["input_ids"].tolist(), "ours": ours()}

def audio():
    # The model makes units itself, with the processor that it opens without being told to trust.
    extractor = tf.AutoFeatureExtractor.from_pretrained(adapter, **T)
    model = tf.AutoModelForAudioClassification.from_pretrained(adapter, **T)
    with torch.no_grad():
        found = model(**extractor([wave], sampling_rate=16000, return_tensors="pt")).logits.tolist()
    return {"class": place(extractor), "logits": found}

def config():
    return {"class": place(tf.AutoConfig.from_pretrained(adapter, **T))}

def tokenizer():
    return {"class": place(tf.AutoTokenizer.from_pretrained(adapter, **T)), "ours": ours()}

def pipe():
    pipe = tf.pipeline("audio-classification", model=adapter, **T)
    return {"class": place(pipe.model), "scores": {row["label"]: row["score"] for row in pipe(wave)}}

def causal(open_it):
    def door():
        lm = open_it()
        with torch.no_grad():
            state = lm.eval()(**inputs()).logits[0, -1].tolist()
        return {"class": place(lm), "base": place(lm.get_base_model()), "state": state}
    return door

def save():
    model = tf.AutoModel.from_pretrained(adapter, **T)
    model.save_pretrained("again")
    tf.AutoProcessor.from_pretrained(adapter, **T).save_pretrained("again")
    return {"files": sorted(os.listdir("again"))}

def reopen():
    model = tf.AutoModel.from_pretrained("again", **T)
    return {"class": place(model), "logits": logits(model)}

def plain_base():
    return {"class": place(tf.AutoModelForCausalLM.from_pretrained(base, **T))}

each_in_a_fork({
    "AutoConfig": config,
    "AutoModel": of_model("AutoModel"),
    "AutoModelForAudioClassification": of_model("AutoModelForAudioClassification"),
    "AutoProcessor": processor,
    "AutoFeatureExtractor": audio,
    "AutoTokenizer": tokenizer,
    "pipeline": pipe,
    "AutoModelForCausalLM": causal(lambda: tf.AutoModelForCausalLM.from_pretrained(adapter, **T)),
    "AutoPeft": causal(lambda: peft.AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32, **T)),
    "PeftModel": causal(
        lambda: peft.PeftModel.from_pretrained(
            tf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **T), adapter
        )
    ),
    "base": plain_base,
    "save": save,
    "reopen": reopen,
})
"""


@dataclass(frozen=True)
class Example:
    """Folders of a base and an adapter that name nothing yet, and what the package itself computes with them."""

    base: Path
    adapter: Path
    want: dict[str, Any]
    wave: np.ndarray


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Example:
    folder = tmp_path_factory.mktemp("example")
    base, adapter = folder / "base", folder / "adapter"
    shutil.copytree(resolve_base(DEFAULT_BASE), base)
    add_remote_code(base)
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    model = SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, LABELS, processor=processor)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.prompt.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    model.eval().save_pretrained(adapter)
    processor.save_pretrained(adapter, base_source=DEFAULT_BASE)
    wave = (np.random.default_rng(0).normal(size=16000) * 0.1).astype(np.float32)
    features = processor([wave], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**features).logits
        with warnings.catch_warnings():
            # PEFT 0.21 asks for an attribute that transformers 5.24 calls deprecated.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            state = model.to_peft()(**features).logits[0, -1]
        plain = model.lm(**features).logits[0, -1]
    assert (state - plain).abs().max() > 0.1, "the prompt must matter"
    want = {"ids": features["input_ids"].tolist(), "logits": logits.tolist(), "state": state.tolist()}
    return Example(base, adapter, want, wave)


def name_base(adapter: Path, base: str, revision: str | None = None, encoder: str | None = None) -> None:
    """Let an adapter's files name a base, and the code in it."""
    edits = {
        "config.json": {"base_model_name_or_path": base, "base_revision": revision},
        "adapter_config.json": {"base_model_name_or_path": base, "revision": revision},
    }
    for name, changes in edits.items():
        path = adapter / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    path = adapter / "processor_config.json"
    processor = json.loads(path.read_text())
    processor["unit_encoder"] |= {"source": encoder or base, "revision": revision}
    path.write_text(json.dumps(processor))
    refer_to_remote_code(adapter, base)


def upload(hub: LoopbackHub, repo: str, folder: Path) -> str:
    if repo not in hub.repos():
        hub.add_repo(repo)
    return hub.write(
        repo, {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    )


@pytest.fixture
def prepared(example: Example, tmp_path: Path) -> Example:
    """A copy of the example for one test, beside what its child processes read."""
    adapter = tmp_path / "adapter"
    shutil.copytree(example.adapter, adapter)
    np.save(tmp_path / "wave.npy", example.wave)
    (tmp_path / "want.json").write_text(json.dumps(example.want))
    return Example(example.base, adapter, example.want, example.wave)


def doors(output: str) -> dict[str, Any]:
    return dict(json.loads(line[5:]) for line in output.splitlines() if line.startswith("DOOR "))


def check(found: dict[str, Any], want: dict[str, Any]) -> None:
    """Every door gives the package's numbers, and its classes come from the carried code."""
    errors = {name: door for name, door in found.items() if "error" in door}
    assert not errors
    for name in ("AutoModel", "AutoModelForAudioClassification", "AutoFeatureExtractor", "reopen"):
        np.testing.assert_allclose(found[name]["logits"], want["logits"], atol=1e-5, err_msg=name)
    for name in ("AutoModelForCausalLM", "AutoPeft", "PeftModel"):
        np.testing.assert_allclose(found[name]["state"], want["state"], atol=1e-5, err_msg=name)
        assert found[name]["class"][1] == "PeftModelForCausalLM" and found[name]["base"][1] == "GSLMForCausalLM"
    assert found["AutoProcessor"]["ids"] == want["ids"]
    scores = torch.tensor(want["logits"][0]).softmax(-1).tolist()
    assert found["pipeline"]["scores"] == pytest.approx(dict(zip(LABELS, scores, strict=True)), abs=1e-5)
    assert found["AutoModel"]["labels"] == {str(index): label for index, label in enumerate(LABELS)}
    classes = {
        "AutoConfig": "SpeechPromptConfig",
        "AutoModel": "SpeechPromptForAudioClassification",
        "AutoModelForAudioClassification": "SpeechPromptForAudioClassification",
        "AutoProcessor": "SpeechUnitProcessor",
        "AutoFeatureExtractor": "SpeechUnitFeatureExtractor",
        "AutoTokenizer": "UnitTokenizer",
        "pipeline": "SpeechPromptForAudioClassification",
        "base": "GSLMForCausalLM",
        "reopen": "SpeechPromptForAudioClassification",
    }
    for name, class_name in classes.items():
        module, found_name = found[name]["class"]
        assert found_name == class_name and module.startswith("transformers_modules."), name
    assert all(door["ours"] == [] for door in found.values() if "ours" in door)
    assert not any(name.endswith(".py") for name in found["save"]["files"])


@pytest.mark.slow
def test_every_door_opens_folders_without_the_package(prepared: Example, run_python: Callable[..., Any]):
    name_base(prepared.adapter, str(prepared.base))
    done = run_python(FORKS + DOORS, prepared.adapter, prepared.base, install=False)
    check(doors(done.stdout), prepared.want)


@pytest.mark.slow
def test_every_door_opens_hub_ids_without_the_package(
    prepared: Example, hub: LoopbackHub, run_python: Callable[..., Any]
):
    commit = upload(hub, BASE, prepared.base)
    name_base(prepared.adapter, BASE, commit)
    upload(hub, ADAPTER, prepared.adapter)
    done = run_python(FORKS + DOORS, ADAPTER, BASE, install=False)
    check(doors(done.stdout), prepared.want)
    # Thirteen doors, and each module came once.
    assert len(hub.requests(r"GET .*\.py 200")) == len(list(prepared.base.glob("*.py")))


@pytest.mark.slow
def test_a_base_that_went_on_gives_a_pinned_adapter_one_set_of_classes(
    prepared: Example, hub: LoopbackHub, run_python: Callable[..., Any]
):
    commit = upload(hub, BASE, prepared.base)
    name_base(prepared.adapter, BASE, commit)
    upload(hub, ADAPTER, prepared.adapter)
    entry = (prepared.base / "remote_speechprompt.py").read_bytes()
    hub.write(BASE, {"remote_speechprompt.py": entry + b"# newer\n"})
    code = """
model = tf.AutoModel.from_pretrained("org/adapter", **T)
lm = tf.AutoModelForCausalLM.from_pretrained("org/base", revision=sys.argv[1], **T)
print("DOOR " + json.dumps(["AutoModel", {"logits": logits(model), "same": type(lm) is type(model.lm)}]))
"""
    # The second process finds everything, the code too, in the cache.
    for offline in ("0", "1"):
        env = {"HF_HUB_OFFLINE": offline}
        found = doors(run_python(FORKS + code, commit, install=False, env=env).stdout)["AutoModel"]
        np.testing.assert_allclose(found["logits"], prepared.want["logits"], atol=1e-5)
        assert found["same"]


@pytest.mark.slow
def test_the_embedded_base_is_a_hub_id_where_the_package_is_absent(
    prepared: Example, hub: LoopbackHub, run_python: Callable[..., Any]
):
    name_base(prepared.adapter, DEFAULT_BASE)
    code = """
model = tf.AutoModel.from_pretrained("adapter", **T)
print("DOOR " + json.dumps(["folder", {"logits": logits(model), "units": model.processor.encode_units(
    [wave], sampling_rate=16000)[0].units.tolist()}]))
"""
    upload(hub, DEFAULT_BASE, prepared.base)
    found = doors(run_python(FORKS + code, install=False).stdout)["folder"]
    np.testing.assert_allclose(found["logits"], prepared.want["logits"], atol=1e-5)
    # `[2, tokens…, 0]`
    assert len(found["units"]) == len(prepared.want["ids"][0]) - 2


def test_nothing_runs_without_trust(prepared: Example, hub: LoopbackHub, run_python: Callable[..., Any]):
    upload(hub, BASE, prepared.base)
    name_base(prepared.adapter, BASE)
    upload(hub, ADAPTER, prepared.adapter)
    code = """
F = {"trust_remote_code": False}
doors = {"pipeline": lambda: tf.pipeline("audio-classification", model="org/adapter", **F)}
names = ("AutoConfig", "AutoModel", "AutoModelForAudioClassification", "AutoModelForCausalLM", "AutoProcessor",
         "AutoFeatureExtractor")
doors |= {name: lambda name=name: getattr(tf, name).from_pretrained("org/adapter", **F) for name in names}
each_in_a_fork(doors)
print("DOOR " + json.dumps(["code", os.path.exists(transformers_modules)]))
"""
    found = doors(run_python(FORKS + code, install=False).stdout)
    assert found.pop("code") is False and len(found) == 7
    for name, door in found.items():
        assert door["error"] == "ValueError" and "trust_remote_code=True" in door["text"], name
    assert not hub.requests(r"remote_speechprompt\.py")


@pytest.mark.slow
def test_the_imported_package_wins_and_no_code_is_fetched(
    prepared: Example, hub: LoopbackHub, run_python: Callable[..., Any]
):
    upload(hub, BASE, prepared.base)
    name_base(prepared.adapter, BASE)
    upload(hub, ADAPTER, prepared.adapter)
    code = """
import speechprompt_hf
model = tf.AutoModel.from_pretrained("org/adapter", **T)
classes = [place(model), place(model.lm), place(tf.AutoConfig.from_pretrained("org/adapter", **T))]
classes += [place(getattr(tf, name).from_pretrained("org/adapter", **T))
            for name in ("AutoProcessor", "AutoFeatureExtractor")]
classes.append(place(tf.pipeline("audio-classification", model="org/adapter", **T).model))
print("DOOR " + json.dumps(["classes", {"classes": classes, "logits": logits(model)}]))
"""
    found = doors(run_python(FORKS + code).stdout)["classes"]
    np.testing.assert_allclose(found["logits"], prepared.want["logits"], atol=1e-5)
    assert all(module.startswith("speechprompt_hf.") for module, _ in found["classes"])
    assert not hub.requests(r"remote_speechprompt\.py")


@pytest.mark.slow
def test_the_package_imported_after_carried_code_takes_over(prepared: Example, run_python: Callable[..., Any]):
    name_base(prepared.adapter, str(prepared.base))
    code = """
first = tf.AutoModel.from_pretrained("adapter", **T)
import speechprompt_hf
second = tf.AutoModel.from_pretrained("adapter", **T)
processor = tf.AutoProcessor.from_pretrained("adapter", **T)
with torch.no_grad():
    found = second(**tf.AutoFeatureExtractor.from_pretrained("adapter", **T)(
        [wave], sampling_rate=16000, return_tensors="pt")).logits.tolist()
print("DOOR " + json.dumps(["both", {"classes": [place(first), place(second), place(second.lm), place(processor)],
    "logits": [logits(first), logits(second), found]}]))
"""
    found = doors(run_python(FORKS + code).stdout)["both"]
    for logits in found["logits"]:
        np.testing.assert_allclose(logits, prepared.want["logits"], atol=1e-5)
    modules = [module.split(".")[0] for module, _ in found["classes"]]
    assert modules == ["transformers_modules", "speechprompt_hf", "speechprompt_hf", "speechprompt_hf"]


@pytest.mark.slow
def test_the_lines_of_the_documentation_run_and_pinned_code_comes_without_warnings(
    prepared: Example, hub: LoopbackHub, run_python: Callable[..., Any]
):
    commit = upload(hub, BASE, prepared.base)
    name_base(prepared.adapter, BASE, commit)
    upload(hub, ADAPTER, prepared.adapter)
    text = (Path(__file__).resolve().parents[2] / "docs" / "remote-code.md").read_text(encoding="utf-8")
    lines = text.split("```python\n", 1)[1].split("```", 1)[0].replace("organisation/adapter", ADAPTER)
    assert "sampling_rate=16000" in lines and "model(**inputs)" in lines
    code = "import numpy\narray = numpy.load('wave.npy')\n" + lines
    said = "A new version of the following files was downloaded"
    done = run_python(code, install=False)
    label = LABELS[int(np.argmax(prepared.want["logits"][0]))]
    assert done.stdout.split() == [label] and done.stderr.count(said) > 10
    done = run_python(code, install=False)
    assert done.stdout.split() == [label] and said not in done.stderr
    # Pinned, in a cache that knows nothing: the commit's code, although the branch has another by now.
    hub.write(BASE, {"remote_speechprompt.py": "raise SystemExit(3)"})
    pinned = code.replace("trust_remote_code=True", f'trust_remote_code=True, code_revision="{commit}"')
    done = run_python(pinned, install=False, env={"HF_HOME": "another"})
    assert done.stdout.split() == [label] and said not in done.stderr


@pytest.mark.slow
def test_a_missing_reader_is_one_sentence(prepared: Example, run_python: Callable[..., Any]):
    name_base(prepared.adapter, str(prepared.base))
    hides = NOT_INSTALLED.replace('("speechprompt_hf",', '("soundfile", "soxr", "speechprompt_hf",')
    assert hides != NOT_INSTALLED
    code = """
processor = tf.AutoProcessor.from_pretrained("adapter", **T)
def units():
    return {"ids": processor([wave], sampling_rate=16000, return_tensors="pt")["input_ids"].tolist()}
each_in_a_fork({
    "array": units,
    "file": lambda: processor(["some.wav"], return_tensors="pt"),
    "rate": lambda: processor([wave], sampling_rate=8000, return_tensors="pt"),
})
"""
    found = doors(run_python(FORKS + code, site=[hides]).stdout)
    assert found["array"]["ids"] == prepared.want["ids"]
    for door, package in (("file", "soundfile"), ("rate", "soxr")):
        assert found[door]["error"] == "MissingDependencyError"
        assert found[door]["text"].endswith(f"(pip install {package})")
