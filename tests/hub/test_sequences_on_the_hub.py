"""Adapters that say sequences on the Hub: every door gives the tokens that the package gave, with and without it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechprompt_hf import DEFAULT_BASE, SpeechPromptForAudioClassification, SpeechUnitProcessor
from tests.fixtures.repositories import ADAPTER_FILES
from tests.fixtures.sequences import saying_model
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_mbarts import tiny_mbart
from tests.hub.loopback import LoopbackHub

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

BASE, ADAPTER, CLASSIFIER = "org/base", "org/says", "org/classifies"
IDS = [[2, 9, 10, 17, 5, 0]]
WAVE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)
PUSH = """
import sys
from speechprompt_hf.hub.push import push_adapter, push_base
base, *adapters = sys.argv[1:]
push_base(base, "org/base")
for folder, repo in zip(adapters[::2], adapters[1::2]):
    print(push_adapter(folder, repo, base="org/base").files)
"""
# One process a way in, and each door in a fork of it: a class that one door registers would open the next one.
OPEN = """
import json, os, sys, traceback
import numpy as np, peft, torch, transformers as tf
name, classifier, way, kind = sys.argv[1:]
trusted = {"trust_remote_code": True} if way == "remote" else {}
if way == "installed":
    import speechprompt_hf
ids, wave, task = torch.tensor(json.load(open("ids.json"))), np.load("wave.npy"), "automatic-speech-recognition"

def says(model):
    return [type(model).__module__.split(".")[0], type(model).__name__, model.generate(input_ids=ids).tolist()]

def open_with(auto):
    return lambda: says(getattr(tf, auto).from_pretrained(name, **trusted))

def both_kinds(auto="AutoModel"):
    other = tf.AutoModel.from_pretrained(classifier, **trusted)
    model = tf.AutoModel.from_pretrained(name, **trusted)
    third = tf.AutoModel.from_pretrained(classifier, **trusted)
    return [type(other).__name__, type(third).__name__, *says(model)]

def logits(lm):
    lm = lm.eval()
    if kind == "mbart":
        said = torch.tensor([[lm.config.language_token_id, 0]])
        inputs = {**lm.get_base_model().encoder_inputs(ids), "decoder_input_ids": said}
    else:
        inputs = {"input_ids": ids}
    return [type(lm).__name__, lm(**inputs).logits.tolist()]

auto = "AutoModelForSeq2SeqLM" if kind == "mbart" else "AutoModelForCausalLM"
auto_peft = getattr(peft, "AutoPeftModelForSeq2SeqLM" if kind == "mbart" else "AutoPeftModelForCausalLM")

def from_recording(options):
    return tf.pipeline(task, model=name, **trusted)(wave, **options)

def by_hand():
    processor = tf.AutoProcessor.from_pretrained(name, **trusted)
    model = tf.AutoModelForSpeechSeq2Seq.from_pretrained(name, **trusted)
    tokens = model.generate(**processor([wave], sampling_rate=16_000, return_tensors="pt"))
    return [type(processor).__name__, model.output_tokenizer.decode(tokens[0], skip_special_tokens=True)]

def again():
    tf.AutoModel.from_pretrained(name, **trusted).save_pretrained("again")
    return [sorted(os.listdir("again")), *says(tf.AutoModel.from_pretrained("again", **trusted))]

doors = {
    "AutoModel": open_with("AutoModel"),
    "AutoModelForSpeechSeq2Seq": open_with("AutoModelForSpeechSeq2Seq"),
    "both kinds": both_kinds,
    "classification": open_with("AutoModelForAudioClassification"),
    "a classifier": lambda: tf.AutoModelForSpeechSeq2Seq.from_pretrained(classifier, **trusted),
    "a base": lambda: tf.AutoModelForSpeechSeq2Seq.from_pretrained("org/base", **trusted),
    "language model": lambda: logits(getattr(tf, auto).from_pretrained(name, **trusted)),
    "AutoPeft": lambda: logits(auto_peft.from_pretrained(name, dtype=torch.float32, **trusted)),
    "again": again,
}
if way == "installed":
    doors["own class"] = lambda: says(speechprompt_hf.SpeechPromptForSequenceGeneration.from_pretrained(name))
if kind == "gslm":
    doors["AutoProcessor"] = by_hand
    doors["pipeline"] = lambda: from_recording({})
    doors["pipeline with beams"] = lambda: from_recording({"num_beams": 3})
    doors["pipeline of a classifier"] = lambda: tf.pipeline(task, model=classifier, **trusted)
for door, open_it in doors.items():
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            print("DOOR " + json.dumps([door, open_it()]))
        except BaseException as error:
            traceback.print_exc()
            print("DOOR " + json.dumps([door, {"error": type(error).__name__, "text": str(error)}]))
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


@dataclass(frozen=True)
class Example:
    """Folders of a base, of an adapter that says sequences and of a classifier; what the first says."""

    base: str
    adapter: Path
    classifier: Path
    tokens: list[list[int]]
    texts: dict[int, str]
    logits: Any


def _logits(model: Any, kind: str) -> Any:
    ids = torch.tensor(IDS)
    if kind == "gslm":
        return model.to_peft()(input_ids=ids).logits.tolist()
    said = torch.tensor([[model.lm.config.language_token_id, 0]])
    inputs = {**model.lm.encoder_inputs(ids), "decoder_input_ids": said}
    return model.lm(**inputs, prompt=model.prompt.states(model.lm)).logits.tolist()


@pytest.fixture(scope="module", params=["gslm", "mbart"])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Example]:
    kind, folder = request.param, tmp_path_factory.mktemp("sequences")
    base, processor = DEFAULT_BASE, None
    if kind == "gslm":
        processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    else:
        base = str(folder / "base")
        tiny_mbart().save_pretrained(base)
    model = saying_model(base, processor=processor)
    model.save_pretrained(folder / "adapter")
    options = {"processor": processor, "num_virtual_tokens": 2}
    SpeechPromptForAudioClassification.from_base(base, ["no", "yes"], **options).save_pretrained(folder / "classifier")
    texts = {}
    if processor is not None:
        inputs = processor([WAVE], sampling_rate=16_000, return_tensors="pt")
        for beams in (1, 3):
            tokens = model.generate(**inputs, num_beams=beams)[0]
            texts[beams] = model.output_tokenizer.decode(tokens, skip_special_tokens=True)
        assert texts[1]
    with torch.no_grad():
        logits = _logits(model, kind)
    tokens = model.generate(input_ids=torch.tensor(IDS)).tolist()
    return kind, Example(base, folder / "adapter", folder / "classifier", tokens, texts, logits)


@pytest.fixture
def published(example: Any, hub: LoopbackHub, run_python: Callable[..., Any], tmp_path: Path) -> dict[str, bytes]:
    """The files of the pushed adapter."""
    given = example[1]
    np.save(tmp_path / "wave.npy", WAVE)
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    run_python(PUSH, given.base, given.adapter, ADAPTER, given.classifier, CLASSIFIER)
    return {name: hub.read(ADAPTER, name) for name in hub.files(ADAPTER)}


@pytest.mark.slow
def test_the_tokenizer_is_pushed_and_replaced(
    example: Any, published: Any, hub: LoopbackHub, run_python: Callable[..., Any], tmp_path: Path
):
    kind, given = example
    expected = ADAPTER_FILES if kind == "gslm" else ADAPTER_FILES - {"processor_config.json", "tokenizer_config.json"}
    assert set(published) == expected | {"output_tokenizer.json"} | ({".gitattributes"} & set(published))
    assert published["output_tokenizer.json"] == (given.adapter / "output_tokenizer.json").read_bytes()
    other = saying_model(given.base, seed=2)
    other.save_pretrained(tmp_path / "other")
    path = tmp_path / "other" / "output_tokenizer.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values))  # the same, in other bytes
    code = PUSH.replace('push_base(base, "org/base")', "")
    refused = run_python(code, given.base, tmp_path / "other", ADAPTER)
    assert refused.returncode == 0 and hub.read(ADAPTER, "output_tokenizer.json") == path.read_bytes()
    # A classifier in its place has no tokenizer of texts.
    run_python(code, given.base, given.classifier, ADAPTER)
    assert "output_tokenizer.json" not in hub.files(ADAPTER)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("place", "way"), [("hub", "remote"), ("folder", "installed")])
def test_every_door_says_the_same(
    example: Any,
    published: Any,
    hub: LoopbackHub,
    run_python: Callable[..., Any],
    tmp_path: Path,
    place: str,
    way: str,
):
    kind, given = example
    names = [ADAPTER, CLASSIFIER]
    if place == "folder":
        for repo, folder in ((ADAPTER, "says"), (CLASSIFIER, "classifies")):
            (tmp_path / folder).mkdir()
            for name in hub.files(repo):
                (tmp_path / folder / name).write_bytes(hub.read(repo, name))
        names = ["says", "classifies"]
    done = run_python(OPEN, *names, way, kind, install=way == "installed", timeout=700)
    found = dict(json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("DOOR "))
    code = "transformers_modules" if way == "remote" else "speechprompt_hf"
    says = [code, "SpeechPromptForSequenceGeneration", given.tokens]
    for door in ("AutoModel", "AutoModelForSpeechSeq2Seq", *(["own class"] if way == "installed" else [])):
        assert found[door] == says, found[door]
    classifier = "SpeechPromptForAudioClassification"
    assert found["both kinds"] == [classifier, classifier, *says], found["both kinds"]
    assert found["again"][1:] == says and "output_tokenizer.json" in found["again"][0], found["again"]
    refusals = {
        "classification": "says sequences, and SpeechPromptForAudioClassification opens none",
        "a classifier": "is a classifier, and SpeechPromptForSequenceGeneration opens none",
        "a base": "says no sequences",
    }
    for door, sentence in refusals.items():
        assert found[door]["error"] == "AdapterError" and sentence in found[door]["text"], found[door]
    for door in ("language model", "AutoPeft"):
        assert found[door][0] == f"PeftModelFor{'Seq2SeqLM' if kind == 'mbart' else 'CausalLM'}", found[door]
        np.testing.assert_allclose(found[door][1], given.logits, atol=1e-5)
    if kind == "gslm":
        assert found["AutoProcessor"] == ["SpeechUnitProcessor", given.texts[1]]
        assert found["pipeline"] == {"text": given.texts[1]}, found["pipeline"]
        assert found["pipeline with beams"] == {"text": given.texts[3]}
        assert found["pipeline of a classifier"]["error"] == "ValueError"
        assert classifier in found["pipeline of a classifier"]["text"]
