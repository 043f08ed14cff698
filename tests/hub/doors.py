"""The child process of test_doors.py: opens an adapter through every door and says what came of it.

doors.py REPO PLACE   with PLACE one of hub, folder, offline, revision, subfolder
"""

import json
import os
import sys

import numpy as np
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)

NAME, PLACE = sys.argv[1:3]
IDS = torch.tensor([[2, 9, 10, 50, 0]])
WAVE = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
TRUST = {"trust_remote_code": True} if os.environ.get("TRUST") else {}
WHERE = {
    "offline": {"local_files_only": True},
    "revision": {"revision": "v1"},
    "revision of the adapter": {"adapter_kwargs": {"revision": "v1"}},
    "subfolder": {"subfolder": "task"},
}.get(PLACE, {})
# pipeline hands these to the models that it loads.
FURTHER = {key: value for key, value in WHERE.items() if key != "revision"}


def classifier(door):
    model = door.from_pretrained(NAME, **WHERE, **TRUST)
    return model(input_ids=IDS).logits[0].tolist()


def language_model(door):
    model = door.from_pretrained(NAME, **WHERE, **TRUST)
    return model(input_ids=IDS).logits[0, -1].tolist()


def base():
    name = os.environ["BASE"]
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, **TRUST)


def units(processor):
    values = processor([WAVE], sampling_rate=16_000, return_tensors="pt")
    return values["input_ids"][0].tolist()


def piped():
    options = {"model_kwargs": FURTHER} if FURTHER else {}
    if PLACE in ("revision", "offline"):
        options = dict(WHERE)
    classify = pipeline("audio-classification", model=NAME, **options, **TRUST)
    return [entry["score"] for entry in sorted(classify(WAVE), key=lambda entry: entry["label"])]


def peft_kwargs():
    return {key: value for key, value in WHERE.items() if key != "adapter_kwargs"}


DOORS = {
    "AutoConfig": lambda: AutoConfig.from_pretrained(NAME, **WHERE, **TRUST).model_type,
    "AutoModel": lambda: classifier(AutoModel),
    "AutoModelForAudioClassification": lambda: classifier(AutoModelForAudioClassification),
    "AutoModelForCausalLM": lambda: language_model(AutoModelForCausalLM),
    "AutoProcessor": lambda: units(AutoProcessor.from_pretrained(NAME, **WHERE, **TRUST)),
    "AutoFeatureExtractor": lambda: AutoFeatureExtractor.from_pretrained(NAME, **WHERE, **TRUST).sampling_rate,
    "AutoTokenizer": lambda: AutoTokenizer.from_pretrained(NAME, **WHERE, **TRUST).convert_tokens_to_ids("5"),
    "pipeline": piped,
    "PeftModel": lambda: (
        PeftModel.from_pretrained(base(), NAME, **peft_kwargs())(input_ids=IDS).logits[0, -1].tolist()
    ),
    "AutoPeftModelForCausalLM": lambda: (
        AutoPeftModelForCausalLM.from_pretrained(NAME, dtype=torch.float32, **peft_kwargs(), **TRUST)
        .eval()(input_ids=IDS)
        .logits[0, -1]
        .tolist()
    ),
}


def main():
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    if os.environ.get("PACKAGE"):
        import speechprompt_hf

        DOORS["SpeechPromptForAudioClassification"] = lambda: classifier(
            speechprompt_hf.SpeechPromptForAudioClassification
        )
    told = {}
    for door, open_it in DOORS.items():
        try:
            told[door] = open_it()
        except Exception as error:
            told[door] = f"{type(error).__name__}: {error}"
    print(json.dumps(told))


if __name__ == "__main__":
    main()
