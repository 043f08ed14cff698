"""Adapters that answer with speech on the Hub: every door gives the units that the package gave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.sequence_models import tiny_base
from tests.fixtures.speech_generation import save_vocoder, speaking_model
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.hub.loopback import LoopbackHub

pytestmark = [pytest.mark.filterwarnings(PEFT_WARNING), pytest.mark.slow, pytest.mark.timeout(900)]

IDS = [[2, 9, 10, 17, 5, 0]]
PUSH = """
import sys
from speechprompt_hf.hub.push import push_adapter, push_base
push_base(sys.argv[1], "org/base")
push_adapter(sys.argv[2], "org/speaks", base="org/base")
"""
OPEN = """
import json, os, sys, traceback
import torch, transformers as tf
name, way = sys.argv[1:]
trusted = {"trust_remote_code": True} if way == "remote" else {}
if way == "installed":
    import speechprompt_hf
ids = torch.tensor(json.load(open("ids.json")))

def says(model):
    units = [row.tolist() for row in model.generate_units(input_ids=ids, do_sample=False)]
    return [type(model).__module__.split(".")[0], type(model).__name__, units, model.config.vocoder_name_or_path]

doors = {
    "AutoModel": lambda: says(tf.AutoModel.from_pretrained(name, **trusted)),
    "AutoConfig": lambda: tf.AutoConfig.from_pretrained(name, **trusted).purpose,
    "texts": lambda: tf.AutoModelForSpeechSeq2Seq.from_pretrained(name, **trusted),
}
if way == "installed":
    doors["own class"] = lambda: says(speechprompt_hf.SpeechPromptForSpeechGeneration.from_pretrained(name))
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


@pytest.mark.parametrize("kind", ["gslm", "mbart"])
def test_every_door_says_the_same(kind: str, hub: LoopbackHub, run_python: Callable[..., Any], tmp_path: Path):
    lm, _ = tiny_base(kind, tmp_path / "made")
    lm.save_pretrained(tmp_path / "base")
    vocoder = save_vocoder(tmp_path / "vocoder", 26)
    model = speaking_model(tmp_path / "base", vocoder_name_or_path=str(vocoder))
    model.save_pretrained(tmp_path / "adapter")
    units = [row.tolist() for row in model.generate_units(input_ids=torch.tensor(IDS), do_sample=False)]
    assert units[0]
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    run_python(PUSH, tmp_path / "base", tmp_path / "adapter")
    assert str(tmp_path) not in hub.read("org/speaks", "config.json").decode()
    for way in ("remote", "installed"):
        done = run_python(OPEN, "org/speaks", way, install=way == "installed", timeout=600)
        found = dict(json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("DOOR "))
        code = "transformers_modules" if way == "remote" else "speechprompt_hf"
        says = [code, "SpeechPromptForSpeechGeneration", units, None]
        for door in ("AutoModel", *(["own class"] if way == "installed" else [])):
            assert found[door] == says, found[door]
        assert found["AutoConfig"] == "speech"
        assert found["texts"]["error"] == "AdapterError" and "answers with speech" in found["texts"]["text"]
