"""A Unit mBART and its adapter on the Hub: pushed with the code that opens them, and opened without this package."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from tests.fixtures.unit_mbarts import tiny_mbart
from tests.hub.loopback import LoopbackHub

BASE, ADAPTER, ROW = "org/unit-mbart", "org/mbart-adapter", [2, 9, 10, 17, 5, 0]
PUSH = """
import sys
from speechprompt_hf.hub.push import push_adapter, push_base
base, adapter = sys.argv[1:]
print(push_base(base, "org/unit-mbart").files)
print(push_adapter(adapter, "org/mbart-adapter", base="org/unit-mbart").files)
"""
OPEN = """
import json, sys, torch, transformers as tf, peft
ids = torch.tensor([json.loads(sys.argv[1])])
trusted = {"trust_remote_code": sys.argv[2] == "remote"}
if sys.argv[2] != "remote":
    import speechprompt_hf
found = {}
for door in ("AutoModel", "AutoModelForAudioClassification"):
    model = getattr(tf, door).from_pretrained("org/mbart-adapter", **trusted)
    found[door] = [type(model).__module__.split(".")[0], type(model).__name__, model(input_ids=ids).logits.tolist()]
base = tf.AutoModelForSeq2SeqLM.from_pretrained("org/unit-mbart", **trusted)
found["base"] = [type(base).__module__.split(".")[0], type(base).__name__]
inputs = base.encoder_inputs(ids)
said = torch.tensor([[base.config.language_token_id, 0]])
for name, lm in (
    ("AutoModelForSeq2SeqLM", tf.AutoModelForSeq2SeqLM.from_pretrained("org/mbart-adapter", **trusted)),
    ("AutoPeft", peft.AutoPeftModelForSeq2SeqLM.from_pretrained("org/mbart-adapter", dtype=torch.float32, **trusted)),
):
    found[name] = [type(lm).__name__, lm.eval()(**inputs, decoder_input_ids=said).logits.tolist()]
print("FOUND " + json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["remote", "installed"])
@torch.no_grad()
def test_every_door_opens_hub_ids(hub: LoopbackHub, run_python: Callable[..., Any], tmp_path, way: str):
    tiny_mbart().save_pretrained(tmp_path / "base")
    model = SpeechPromptForAudioClassification.from_base(tmp_path / "base", ["no", "yes"], separator_init="normal")
    model.save_pretrained(tmp_path / "adapter")
    run_python(PUSH, tmp_path / "base", tmp_path / "adapter")
    done = run_python(OPEN, json.dumps(ROW), way, install=way == "installed")
    (line,) = [line[6:] for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found, place = json.loads(line), "transformers_modules" if way == "remote" else "speechprompt_hf"
    ids = torch.tensor([ROW])
    for door in ("AutoModel", "AutoModelForAudioClassification"):
        assert found[door][:2] == [place, "SpeechPromptForAudioClassification"]
        assert (torch.tensor(found[door][2]) - model(input_ids=ids).logits).abs().max() < 1e-5
    assert found["base"] == [place, "UnitMBartForConditionalGeneration"]
    said = torch.tensor([[model.lm.config.language_token_id, 0]])
    expected = model.lm(**model.lm.encoder_inputs(ids), decoder_input_ids=said, prompt=model.prompt.states(model.lm))
    for door in ("AutoModelForSeq2SeqLM", "AutoPeft"):
        assert found[door][0] == "PeftModelForSeq2SeqLM"
        assert (torch.tensor(found[door][1]) - expected.logits).abs().max() < 1e-5
