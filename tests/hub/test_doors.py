"""The table of docs/opening.md, cell by cell: every door, from every place, with and without the package."""

import json
import re
from pathlib import Path

import pytest
import torch

from speechprompt_hf import DEFAULT_BASE, SpeechPromptForAudioClassification, SpeechUnitProcessor
from tests.fixtures.repositories import BASE

# PEFT 0.21 asks for what transformers 5.24 calls by another name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

ROOT = Path(__file__).resolve().parents[2]
ADAPTER, MANY = "org/keywords", "org/many"
PLACES = ["hub", "folder", "offline", "revision", "revision of the adapter", "subfolder"]
IDS = torch.tensor([[2, 9, 10, 50, 0]])
PUSH = """
import sys
from speechprompt_hf import DEFAULT_BASE
from speechprompt_hf.hub.push import push_adapter, push_base
first, second, base, adapter = sys.argv[1:]
push_base(DEFAULT_BASE, base)
print(push_adapter(first, adapter, base=base).commit)
push_adapter(second, adapter, base=base)
"""
OPEN = """
import os, runpy, sys
if os.environ.get("PACKAGE"):
    import speechprompt_hf
runpy.run_path(os.environ["DOORS"], run_name="__main__")
"""
NO_TRUST = """
import json, os, sys
from transformers import AutoModel, AutoModelForAudioClassification, AutoProcessor, pipeline
told = {}
for door in (AutoModel, AutoModelForAudioClassification, AutoProcessor):
    try:
        door.from_pretrained(sys.argv[1], trust_remote_code=False)
        told[door.__name__] = "opened"
    except Exception as error:
        told[door.__name__] = f"{type(error).__name__}: {error}"
told["code"] = [name for _, _, names in os.walk(os.environ["HF_HOME"]) for name in names if name.endswith(".py")]
print(json.dumps(told))
"""


def expected_cells():
    lines = (ROOT / "docs" / "opening.md").read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| door | hub |"))
    assert [cell.strip() for cell in lines[start].strip("|").split("|")][1:] == PLACES
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        door, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[door.strip("`")] = dict(zip(PLACES, cells, strict=True))
    return rows


CELLS = expected_cells()


class Shared:
    """A Hub with an adapter in two versions, and what each must answer."""

    def __init__(self, folder):
        self.folder = folder
        self.processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
        self.answers = {}
        for version, seed in (("v1", 1), ("main", 2)):
            model = SpeechPromptForAudioClassification.from_base(
                DEFAULT_BASE, ["no", "yes"], readout="pooled", processor=self.processor, seed=seed
            )
            model.save_pretrained(folder / version)
            self.processor.save_pretrained(folder / version)
            self.answers[version] = self.answer(model.eval())

    def answer(self, model):
        import numpy as np

        wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
        batch = self.processor([wave], sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=IDS).logits[0]
            steered = model.to_peft()(input_ids=IDS).logits[0, -1]
            heard = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0].softmax(-1)
        return {
            "AutoConfig": "speechprompt",
            "AutoModel": logits.tolist(),
            "AutoModelForAudioClassification": logits.tolist(),
            "AutoModelForCausalLM": steered.tolist(),
            "AutoProcessor": batch["input_ids"][0].tolist(),
            "AutoFeatureExtractor": 16_000,
            "AutoTokenizer": 9,
            "pipeline": heard.tolist(),
            "PeftModel": steered.tolist(),
            "AutoPeftModelForCausalLM": steered.tolist(),
            "SpeechPromptForAudioClassification": logits.tolist(),
        }


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Shared(tmp_path_factory.mktemp("doors"))


@pytest.fixture
def published(shared, hub, run_python):
    done = run_python(PUSH, shared.folder / "v1", shared.folder / "main", BASE, ADAPTER)
    hub.tag(ADAPTER, "v1", done.stdout.split()[-1])
    files = {name: hub.read(ADAPTER, name) for name in hub.files(ADAPTER)}
    hub.add_repo(MANY, {f"task/{name}": content for name, content in files.items()})
    return files


def open_all(run_python, place, name, *, package):
    environment = {
        "DOORS": str(ROOT / "tests" / "hub" / "doors.py"),
        "BASE": BASE,
        "SEED": "7",
        **({"PACKAGE": "1"} if package else {"TRUST": "1"}),
    }
    done = run_python(OPEN, name, place, env=environment, install=package)
    return json.loads(done.stdout.splitlines()[-1])


def check(told, place, answers):
    for door, result in told.items():
        cell = CELLS[door][place]
        if cell in ("yes", "main"):
            version = "main" if cell == "main" or "revision" not in place else "v1"
            wanted = answers[version][door]
            assert not isinstance(result, str) or result == wanted, f"{door} from {place}: {result}"
            if isinstance(wanted, list):
                assert result == pytest.approx(wanted, abs=1e-5), f"{door} from {place}"
            else:
                assert result == wanted, f"{door} from {place}"
        else:
            assert isinstance(result, str) and cell in result, f"{door} from {place}: {result}"


@pytest.mark.parametrize("package", [True, False], ids=["with the package", "without the package"])
@pytest.mark.parametrize(
    "place", [place if place == "hub" else pytest.param(place, marks=pytest.mark.slow) for place in PLACES]
)
def test_every_door_from_every_place(shared, published, run_python, tmp_path, place, package):
    name = MANY if place == "subfolder" else ADAPTER
    if place == "folder":
        name = tmp_path / "copy"
        name.mkdir()
        for path, content in published.items():
            (name / path).write_bytes(content)
    if place == "offline":
        open_all(run_python, "hub", name, package=package)
    told = open_all(run_python, place, name, package=package)
    assert set(told) == set(CELLS) - (set() if package else {"SpeechPromptForAudioClassification"})
    check(told, place, shared.answers)


def test_without_trust_nothing_is_executed(published, run_python):
    told = json.loads(run_python(NO_TRUST, ADAPTER, install=False).stdout.splitlines()[-1])
    assert told.pop("code") == []
    for door, result in told.items():
        assert re.search("trust_remote_code|does not recognize this architecture", result), f"{door}: {result}"


@pytest.mark.slow
def test_the_two_versions_differ(shared):
    first, second = (shared.answers[version]["AutoModel"] for version in ("v1", "main"))
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 1e-2
