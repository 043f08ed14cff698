"""Wrapped language models from end to end: training, the command line, a fresh process, the Hub."""

import json
import subprocess
import sys

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import HfApi
from transformers import TrainingArguments

from speechprompt_cli.main import main
from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.convert.causal_lm import wrap_causal_lm
from speechprompt_hf.convert.whole_base import join_base
from speechprompt_hf.core.errors import HubError
from speechprompt_hf.hub.push import push_adapter, push_base
from speechprompt_hf.modeling.base_loading import load_base
from speechprompt_hf.tasks import task_from_labels
from speechprompt_hf.training import TrainingSettings, train
from tests.fixtures.speech_encoders import unit_processor
from tests.fixtures.stock_unit_lms import UNITS, save_twist, stock_model, wrapped
from tests.fixtures.tiny_models import PEFT_WARNING, RAGGED_ROWS, pad
from tests.fixtures.unit_tasks import unit_task_splits, write_tones
from tests.hub.conftest import hub, run_python  # noqa: F401 - fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(PEFT_WARNING),
    # huggingface_hub 2.4 uploads with a call that its own network library calls deprecated.
    pytest.mark.filterwarnings("ignore:Use 'content"),
]
IDS, MASK = pad(RAGGED_ROWS)
OPEN = """
import sys, torch
from transformers import AutoModel
import speechprompt_hf
ids, mask = torch.load(sys.argv[2])
print(AutoModel.from_pretrained(sys.argv[1])(ids, mask).logits.tolist())
"""


@pytest.mark.parametrize(
    ("kind", "start", "settings"),
    [
        ("qwen2", False, {"prompt": "deep"}),
        ("qwen2", False, {"prompt": "deep", "checkpointing": True}),
        ("opt", True, {"prompt": "input"}),
    ],
    ids=str,
)
def test_a_prompt_learns_and_opens_in_a_fresh_process(kind, start, settings, tmp_path):
    wrapped(kind, tmp_path, start=start)
    splits = unit_task_splits()
    options = dict(settings)
    # transformers 5.24 renamed the argument.
    renamed = "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    name = "activation_checkpointing" if renamed else "gradient_checkpointing"
    checkpointing = {name: True} if options.pop("checkpointing", False) else {}
    settings = TrainingSettings(num_epochs=15, num_virtual_tokens=4, learning_rate=2e-2, readout="pooled", **options)
    before = load_base(tmp_path / "base").state_dict()
    result = train(
        task_from_labels(splits.train["label"]),
        splits,
        tmp_path / "base",
        settings,
        output_dir=tmp_path / "adapter",
        progress=False,
        **checkpointing,
    )
    assert result.validation_metric > 0.6, result.history
    after = result.model.lm.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    torch.save((IDS, MASK), tmp_path / "inputs.pt")
    command = [sys.executable, "-c", OPEN, str(tmp_path / "adapter"), str(tmp_path / "inputs.pt")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    with torch.no_grad():
        expected = result.model.eval()(IDS, MASK).logits
    assert (torch.tensor(json.loads(printed.splitlines()[-1])) - expected).abs().max() < 1e-4


def test_the_command_line_trains_on_a_wrapped_base_and_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))
    processor = unit_processor("hubert_two_convolutions")
    processor.save_pretrained(tmp_path / "processor", save_encoder=True)
    save_twist(stock_model("llama"), tmp_path / "stock")
    wrap_causal_lm(tmp_path / "stock", tmp_path / "lm", num_units=20)
    join_base(tmp_path / "lm", tmp_path / "processor", tmp_path / "base")
    tones = write_tones(tmp_path / "tones", rows_per_label=12)
    base, adapter = str(tmp_path / "base"), str(tmp_path / "adapter")
    assert main(["train", "--dataset", str(tones), "--base", base, "--output", adapter, "--epochs", "2"]) == 0
    capsys.readouterr()
    recording = next((tones / "high").iterdir())
    assert main(["predict", adapter, str(recording), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.fixture
def to(hub, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return {"endpoint": hub.url, "token": "token"}


DOORS = """
import json, sys, torch, transformers as tf, peft
if sys.argv[1] == "installed":
    import speechprompt_hf
trust = {} if sys.argv[1] == "installed" else {"trust_remote_code": True}
ids = torch.tensor([[2, 9, 10, 25, 0]])
found = {}
for door in ("AutoModel", "AutoModelForAudioClassification"):
    found[door] = getattr(tf, door).from_pretrained("org/adapter", **trust)(input_ids=ids).logits[0].tolist()
for name, door in (("AutoModelForCausalLM", tf.AutoModelForCausalLM), ("AutoPeft", peft.AutoPeftModelForCausalLM)):
    found[name] = door.from_pretrained("org/adapter", **trust).eval()(input_ids=ids).logits[0, -1].tolist()
lm = tf.AutoModelForCausalLM.from_pretrained("org/base", **trust)
found["PeftModel"] = peft.PeftModel.from_pretrained(lm, "org/adapter")(input_ids=ids).logits[0, -1].tolist()
print(json.dumps(found))
"""


@pytest.mark.parametrize("prompt", ["deep", "input"])
def test_push_base_wraps_a_stock_model_and_every_door_holds(hub, to, run_python, tmp_path, prompt):  # noqa: F811
    stock = save_twist(stock_model("qwen3"), tmp_path / "stock")
    model = SpeechPromptForAudioClassification.from_base(stock, ["a", "b"], prompt=prompt, separator_init="normal")
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(HubError, match=r"is not on the Hub.*push-base"):
        push_adapter(tmp_path / "adapter", "org/adapter", **to)
    push_base(stock, "org/base", **to)
    values = json.loads(hub.read("org/base", "config.json"))
    assert values["model_type"] == "unit_causal_lm" and values["lm_config"]["model_type"] == "qwen3"
    assert "UnitCausalLMForCausalLM" in values["auto_map"]["AutoModelForCausalLM"]
    assert len(hub.read("org/base", "dict.txt").splitlines()) == UNITS + 1
    push_adapter(tmp_path / "adapter", "org/adapter", **to)
    ids = torch.tensor([[2, 9, 10, 25, 0]])
    with torch.no_grad():
        expected = model(ids).logits[0]
        steered = model.lm(ids, prompt=model.prompt.states(model.lm)).logits[0, -1]
    for place, install in (("installed", True), ("remote", False)):
        done = run_python(DOORS, place, install=install)
        found = json.loads(done.stdout.splitlines()[-1])
        for door, values in found.items():
            wanted = expected if len(values) == 2 else steered
            assert (torch.tensor(values) - wanted).abs().max() < 1e-4, (place, door)


def test_an_adapter_is_not_pushed_with_a_stock_model_as_its_base(hub, to, tmp_path):  # noqa: F811
    stock = save_twist(stock_model("opt"), tmp_path / "stock")
    model = SpeechPromptForAudioClassification.from_base(stock, ["a", "b"])
    model.save_pretrained(tmp_path / "adapter")
    HfApi(**to).create_repo("org/stock")
    hub.write("org/stock", {"config.json": (stock / "config.json").read_bytes()})
    with pytest.raises(HubError, match=r"'opt', which is no base"):
        push_adapter(tmp_path / "adapter", "org/adapter", base="org/stock", **to)
    assert "org/adapter" not in hub.repos()
