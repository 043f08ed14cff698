"""Trainer against the loopback Hub: what each strategy publishes, what is refused, what training goes on from."""

import json
import re
from pathlib import Path

import huggingface_hub.constants
import pytest

from speechprompt_hf import DEFAULT_BASE
from speechprompt_hf.core.errors import ConfigurationError, HubError
from speechprompt_hf.training.hub_checkpoint import download_checkpoint
from tests.fixtures.repositories import ADAPTER_FILES, BASE
from tests.hub.faults import Fault

# PEFT 0.21 asks for what transformers 5.24 calls by another name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

REPO = "me/keywords"
RESUMED_FROM = {"model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"}
ROWS = (
    f"BASE = {BASE!r}"
    + """
import json, os, sys
import numpy as np
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments, set_seed
from speechprompt_hf import (
    DEFAULT_BASE, GSLMConfig, GSLMForCausalLM, SpeechPromptForAudioClassification, SpeechUnitProcessor, UnitVocabulary,
)
from speechprompt_hf.core.errors import SpeechPromptError
from speechprompt_hf.data import UnitCollator, labelled_units
from speechprompt_hf.hub.push import push_base
from speechprompt_hf.tasks import task_from_labels
from speechprompt_hf.training import PromptTrainer
from speechprompt_hf.training.hub_checkpoint import download_checkpoint

REPO = "me/keywords"
IDS = torch.tensor([[2, 9, 10, 50, 0]])
VOCABULARY = UnitVocabulary.from_num_units(100)

def rows():
    rng = np.random.default_rng(0)
    labels = [("no", "yes")[row % 2] for row in range(24)]
    units = [[*rng.integers(0, 50, 9).tolist(), 60 if label == "no" else 70] for label in labels]
    return Dataset.from_dict({"units": units, "label": labels})

TASK = task_from_labels(rows()["label"])
TABLE = labelled_units(rows(), TASK, VOCABULARY)

def fresh(base=DEFAULT_BASE, audio=True, **options):
    set_seed(0)
    processor = SpeechUnitProcessor.from_pretrained(base) if audio else None
    return SpeechPromptForAudioClassification.from_base(
        base, TASK.id2label, readout="pooled", processor=processor, **{"prompt_dropout": 0.0, **options}
    )

def trainer_of(model, kind=PromptTrainer, folder="run", processing_class=None, hub_base=None, **options):
    arguments = TrainingArguments(**{
        "output_dir": folder, "max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "save_strategy": "steps", "save_steps": 3, "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        "dataloader_pin_memory": False, "hub_model_id": REPO, "hub_always_push": True, **options,
    })
    own = {} if hub_base is None else {"hub_base": hub_base}
    return kind(
        model, arguments, UnitCollator(VOCABULARY), TABLE, TABLE, processing_class=processing_class, **own
    )

def answer(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits[0].tolist()

def tell(**told):
    print(json.dumps(told))
"""
)
OPEN = """
import json, sys
import numpy as np
import torch
import speechprompt_hf
from peft import AutoPeftModelForCausalLM
from transformers import (
    AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, AutoModelForCausalLM, AutoProcessor,
    AutoTokenizer, pipeline,
)
name, revisions = sys.argv[1], sys.argv[2:]
IDS = torch.tensor([[2, 9, 10, 50, 0]])
logits = [
    AutoModel.from_pretrained(name, adapter_kwargs={"revision": revision}).eval()(input_ids=IDS).logits[0].tolist()
    for revision in revisions
]
doors = [AutoModelForAudioClassification, AutoModelForCausalLM, AutoPeftModelForCausalLM]
opened = [type(door.from_pretrained(name)).__name__ for door in doors]
opened += [type(door.from_pretrained(name)).__name__ for door in (AutoProcessor, AutoFeatureExtractor, AutoTokenizer)]
wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
heard = pipeline("audio-classification", model=name)(wave)
print(json.dumps({"logits": logits, "opened": opened, "heard": sorted(entry["label"] for entry in heard)}))
"""
OPENED = [
    "SpeechPromptForAudioClassification",
    "PeftModelForCausalLM",
    "PeftModelForCausalLM",
    "SpeechUnitProcessor",
    "SpeechUnitFeatureExtractor",
    "UnitTokenizer",
]


@pytest.fixture
def child(hub, run_python):
    """Runs code after ROWS; gives what it told."""

    def run(code, *args, **options):
        done = run_python(ROWS + code, *args, **options)
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    return run


def parts(commit):
    return {path for path in commit.files if "/" not in path} - {".gitattributes"}


def open_all(run_python, *revisions):
    return json.loads(run_python(OPEN, REPO, *revisions).stdout.splitlines()[-1])


def everything(hub):
    return b"".join(blob.data for commit in hub.commits(REPO) for blob in commit.files.values())


STRATEGY = """
push_base(DEFAULT_BASE, BASE)
model = fresh()
trainer = trainer_of(model, hub_base=BASE, push_to_hub=True, hub_strategy=sys.argv[1], hub_token="token")
kept = []

from transformers import TrainerCallback
class Keep(TrainerCallback):
    def on_save(self, args, state, control, model, **kwargs):
        kept.append(answer(model))
        model.train()

trainer.add_callback(Keep())
trainer.train()
info = trainer.push_to_hub(language="lt", license="cc0-1.0")
tell(logits=[*kept, answer(model)], oid=info.oid, url=info.commit_url, saved=sorted(os.listdir("run")))
"""


@pytest.mark.parametrize(
    ("strategy", "num_commits", "folders"),
    [
        pytest.param("checkpoint", 3, {"last-checkpoint"}, marks=pytest.mark.slow),
        ("end", 1, set()),
        pytest.param("every_save", 3, set(), marks=pytest.mark.slow),
        pytest.param("all_checkpoints", 3, {"checkpoint-3", "checkpoint-6"}, marks=pytest.mark.slow),
    ],
)
def test_every_state_that_is_published_is_whole_and_opens(
    hub, child, run_python, tmp_path, strategy, num_commits, folders
):
    told, _ = child(STRATEGY, strategy)
    commits = hub.commits(REPO)[:-1]  # without the Hub's own first one
    assert len(commits) == num_commits
    assert all(parts(commit) == ADAPTER_FILES for commit in commits)
    assert told["oid"] == commits[0].oid and told["oid"] in told["url"]
    assert {path.split("/")[0] for path in hub.files(REPO) if "/" in path} == folders
    assert all({path.split("/")[1] for path in hub.files(REPO) if path.startswith(f)} == RESUMED_FROM for f in folders)
    titles = [commit.title for commit in commits]
    steps = ["Training in progress, step 6", "Training in progress, step 3"]
    assert titles == ["End of training", *(steps if num_commits == 3 else [])]
    base = hub.commits(BASE)[0].oid
    config, peft = (json.loads(hub.read(REPO, name)) for name in ("config.json", "adapter_config.json"))
    assert (config["base_model_name_or_path"], config["base_revision"]) == (BASE, base)
    assert (peft["base_model_name_or_path"], peft["revision"]) == (BASE, base)
    assert "license: cc0-1.0" in hub.read(REPO, "README.md").decode()
    # The pickle of the arguments stays here, and no path of this machine is told.
    assert "training_args.bin" in told["saved"]
    assert str(tmp_path).encode() not in everything(hub)
    found = open_all(run_python, *(commit.oid for commit in reversed(commits)))
    expected = told["logits"] if num_commits == 3 else told["logits"][-1:]
    for logits, wanted in zip(found["logits"], expected, strict=True):
        assert logits == pytest.approx(wanted, abs=1e-5)
    assert found["opened"] == OPENED and found["heard"] == ["no", "yes"]


RUN = """
push_base(DEFAULT_BASE, BASE)
straight = trainer_of(fresh(), folder="straight")
straight.train()
torch.save(straight.model.state_dict(), "straight.pt")

from transformers import TrainerCallback
class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 3

best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1}
stopped = trainer_of(fresh(), hub_base=BASE, push_to_hub=True, hub_strategy="checkpoint", **best)
stopped.add_callback(Stop())
stopped.train()
tell(step=stopped.state.global_step)
"""
RESUME = """
try:
    fresh_start = download_checkpoint(REPO, "elsewhere")
    resumed = trainer_of(fresh(), folder="elsewhere")
    resumed.train(resume_from_checkpoint=fresh_start)
    straight, now = torch.load("straight.pt", weights_only=True), resumed.model.state_dict()
    distance = max(float((straight[name].double() - now[name].double()).abs().max()) for name in straight)
    tell(folder=fresh_start, step=resumed.state.global_step, distance=distance)
except Exception as error:
    tell(error=f"{type(error).__name__}: {error}", ran=os.path.exists("ran"))
"""


@pytest.mark.slow
def test_three_steps_and_three_after_a_resume_from_the_hub_equal_six(hub, child, run_python):
    assert child(RUN)[0] == {"step": 3}
    state = json.loads(hub.read(REPO, "last-checkpoint/trainer_state.json"))
    assert state["global_step"] == 3 and state["best_global_step"] and state["best_model_checkpoint"] is None
    told, _ = child(RESUME)
    assert told == {"folder": "elsewhere/checkpoint-3", "step": 6, "distance": 0.0}


@pytest.mark.slow
def test_what_is_resumed_from_opens_through_no_door_and_runs_nothing(hub, child, run_python):
    child(RUN)
    doors = run_python(
        "import json, sys, speechprompt_hf\n"
        "from transformers import AutoModel, AutoModelForAudioClassification\n"
        "told = []\n"
        "for door in (AutoModel, AutoModelForAudioClassification,"
        " speechprompt_hf.SpeechPromptForAudioClassification):\n"
        "    try:\n"
        "        door.from_pretrained(sys.argv[1], subfolder='last-checkpoint')\n"
        "        told.append('opened')\n"
        "    except (OSError, ValueError) as error:\n"
        "        told.append(type(error).__name__)\n"
        "print(json.dumps(told))",
        REPO,
    )
    assert "opened" not in json.loads(doors.stdout.splitlines()[-1])
    pickle = b"cposix\nsystem\n(S'touch ran'\ntR."
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt"):
        before = hub.read(REPO, f"last-checkpoint/{name}")
        hub.write(REPO, {f"last-checkpoint/{name}": pickle})
        told, _ = child(RESUME.replace('"elsewhere"', f'"with-{name}"'))
        assert "weights_only" in told["error"].lower() and told["ran"] is False, told
        hub.write(REPO, {f"last-checkpoint/{name}": before})


REFUSED = """
def refused(call):
    try:
        call()
    except SpeechPromptError as error:
        return f"{type(error).__name__}: {error}"
    return "done"

push_base(DEFAULT_BASE, BASE)
os.makedirs("mine")
GSLMForCausalLM(GSLMConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4)).save_pretrained("mine")
push_base("mine", "org/other")
os.remove("mine/hub.json")
nameless = GSLMForCausalLM(GSLMConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4))
publish = {"push_to_hub": True}
trainer = trainer_of(fresh())
told = {
    "embedded": refused(lambda: trainer_of(fresh(), **publish)),
    "folder": refused(lambda: trainer_of(fresh("mine", audio=False), **publish)),
    "nameless": refused(lambda: trainer_of(fresh(nameless, audio=False), **publish)),
    "other": refused(lambda: trainer_of(fresh(), hub_base="org/other", **publish)),
    "absent": refused(lambda: trainer_of(fresh(), hub_base="org/absent", **publish)),
    "no write": refused(lambda: trainer_of(fresh(), hub_base=BASE, hub_token="reader", **publish)),
    "late": refused(trainer.push_to_hub),
    "card": refused(lambda: trainer.push_to_hub(tags=["mine"])),
    "no checkpoint": refused(lambda: download_checkpoint(BASE, "elsewhere")),
    "no repository": refused(lambda: download_checkpoint("org/absent", "elsewhere")),
    "model": refused(lambda: fresh().push_to_hub(REPO)),
    "model of a folder": refused(lambda: fresh("mine", audio=False).push_to_hub(REPO)),
    "nameless model": refused(lambda: fresh(nameless, audio=False).push_to_hub(REPO)),
    "saved": refused(lambda: fresh().save_pretrained("saved", push_to_hub=True, repo_id=REPO)),
}
tell(**told, written=os.path.isfile("saved/adapter_config.json"))
"""


def test_what_nobody_could_open_is_refused_before_training(hub, child, tmp_path):
    told, warned = child(REFUSED)
    hint = 'speechprompt push-base, then PromptTrainer(..., hub_base="organisation/name")'
    for name, base in (("embedded", DEFAULT_BASE), ("folder", str(tmp_path / "mine")), ("nameless", "the folder")):
        assert told[name].startswith("HubError: the model's base is ") and f"publish {base}" in told[name]
        assert hint in told[name]
    assert told["late"] == told["embedded"]
    assert told["other"].startswith("FingerprintMismatchError: the base org/other has weights")
    assert told["absent"].startswith("HubError: cannot read org/absent")
    assert told["no write"].startswith("HubError: cannot push to me/keywords") and "hf auth login" in told["no write"]
    assert told["card"].startswith("ConfigurationError: the card takes no tags (it takes language, license, dataset")
    assert "model.safetensors" in told["no checkpoint"] and 'hub_strategy="checkpoint"' in told["no checkpoint"]
    assert told["no repository"].startswith("HubError: cannot read org/absent")
    for name in ("model", "model of a folder", "nameless model", "saved"):
        assert told[name].startswith("HubError: the base is named") and "speechprompt push-base" in told[name]
    assert told["written"] is True
    assert "will take units and no recordings" in warned
    assert hub.repos() == ["org/gslm-tiny", "org/other"]


LONG = """
push_base(DEFAULT_BASE, BASE)
trainer = trainer_of(fresh(), hub_base=BASE, push_to_hub=True, hub_strategy="every_save")
trainer.train()
tell(step=trainer.state.global_step)
"""


@pytest.mark.slow
def test_a_push_that_fails_is_a_warning_and_the_next_one_is_whole(hub, child):
    hub.add_repo(REPO, {"training_args.bin": b"pickle", "model.safetensors": b"raw vectors", "NOTES.md": "mine"})
    hub.inject(Fault("status", f"{REPO}/commit/", method="POST", status=403))
    told, warned = child(LONG)
    assert told == {"step": 6}
    assert "step 3: not published, training goes on" in warned and "step 6: not" not in warned
    newest = hub.commits(REPO)[0]
    assert newest.title == "Training in progress, step 6"
    # What earlier trainings left in the root is gone, what is not ours stays.
    assert parts(newest) == {*ADAPTER_FILES, "NOTES.md"}


@pytest.mark.slow
def test_an_edited_card_is_kept_while_training(hub, child):
    child(LONG)
    card = hub.read(REPO, "README.md").decode()
    hub.write(REPO, {"README.md": card + "\nOur own words.\n"})
    child(LONG.replace("push_base(DEFAULT_BASE, BASE)", ""))
    assert "Our own words." in hub.read(REPO, "README.md").decode()
    assert len([commit for commit in hub.commits(REPO) if commit.title.startswith("Training")]) == 4


PLAIN = """
push_base(DEFAULT_BASE, BASE)
def pushed(base, **options):
    model = fresh(base, **options)
    processor = SpeechUnitProcessor.from_pretrained(base)
    trainer = trainer_of(model, Trainer, processing_class=processor, max_steps=2, save_strategy="no", push_to_hub=True)
    trainer.train()
    try:
        trainer.push_to_hub()
    except SpeechPromptError as error:
        return f"{type(error).__name__}: {error}"
    return answer(model)

refused = pushed(DEFAULT_BASE)
kept = sorted(os.listdir("run"))
from huggingface_hub import HfApi
files = HfApi().list_repo_files(REPO)
import shutil
shutil.rmtree("run")
tell(refused=refused, kept=kept, files=files, logits=pushed(BASE))
"""


@pytest.mark.slow
def test_plain_trainer_publishes_a_whole_adapter_or_nothing(hub, child, run_python, tmp_path):
    told, _ = child(PLAIN)
    assert told["refused"].startswith("HubError: the base is named") and "then push run with" in told["refused"]
    assert told["files"] == [".gitattributes"] and {"adapter_model.safetensors", "config.json"} <= set(told["kept"])
    assert parts(hub.commits(REPO)[0]) == ADAPTER_FILES
    assert len(hub.commits(REPO)) == 2 and str(tmp_path).encode() not in everything(hub)
    assert json.loads(hub.read(REPO, "adapter_config.json"))["revision"] == hub.commits(BASE)[0].oid
    found = open_all(run_python, "main")
    assert found["logits"][0] == pytest.approx(told["logits"], abs=1e-5)
    assert found["opened"] == OPENED and found["heard"] == ["no", "yes"]


MODEL = """
push_base(DEFAULT_BASE, BASE)
model = fresh(BASE, seed=1)
info = model.push_to_hub(REPO, tags=["mine"], commit_message="mine")
model.save_pretrained("saved", push_to_hub=True, repo_id="me/saved")
tell(logits=answer(model), oid=info.oid)
"""


@pytest.mark.slow
def test_a_model_pushes_itself_with_its_processor_and_a_card(hub, child, run_python):
    told, _ = child(MODEL)
    commits = hub.commits(REPO)
    assert [commit.title for commit in commits[:-1]] == ["mine"] and commits[0].oid == told["oid"]
    assert parts(commits[0]) == ADAPTER_FILES == parts(hub.commits("me/saved")[0])
    card = hub.read(REPO, "README.md").decode()
    assert "# Speech prompt adapter" in card and f"base_model: {BASE}" in card and "- mine" in card
    processor = json.loads(hub.read(REPO, "processor_config.json"))["unit_encoder"]
    config = json.loads(hub.read(REPO, "config.json"))
    assert (config["base_model_name_or_path"], config["base_revision"]) == (BASE, hub.commits(BASE)[0].oid)
    assert (processor["source"], processor["revision"]) == (BASE, hub.commits(BASE)[0].oid)
    found = open_all(run_python, "main")
    assert found["logits"][0] == pytest.approx(told["logits"], abs=1e-5)
    assert found["opened"] == OPENED


KINDS = """
import shutil, threading
from transformers import TrainerCallback
from speechprompt_hf.core.embedded import resolve_base
from speechprompt_hf.training.hub_publishing import RunPublisher

shutil.copytree(resolve_base(DEFAULT_BASE), "base")
push_base("base", BASE)
pushed = {}
for method, base in (("probe", "base"), ("finetune", BASE), ("prompt", BASE)):
    name = f"me/{method}"
    trainer = trainer_of(fresh(base, method=method), folder=method, hub_model_id=name, max_steps=1, save_strategy="no")
    trainer.train()
    trainer.push_to_hub(blocking=False).result()
    pushed[name] = answer(trainer.model)

ended, publish = threading.Event(), RunPublisher._publish

class End(TrainerCallback):
    def on_train_end(self, *arguments, **keywords):
        ended.set()

def late(self, *arguments):
    ended.wait()
    publish(self, *arguments)

RunPublisher._publish = late
options = {"push_to_hub": True, "hub_strategy": "every_save", "hub_always_push": False, "save_steps": 2}
trainer = trainer_of(fresh(BASE), **options)
trainer.add_callback(End())
trainer.train()

best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 3, "save_total_limit": 1}
first = trainer_of(fresh(), folder="best", **best)
first.train()
state = json.load(open("best/checkpoint-6/trainer_state.json"))
state |= {"best_global_step": 3, "best_model_checkpoint": None, "best_metric": -1.0}
json.dump(state, open("best/checkpoint-6/trainer_state.json", "w"))
shutil.rmtree("best/checkpoint-3", ignore_errors=True)
resumed = trainer_of(fresh(), folder="best", **{**best, "max_steps": 9})
resumed.train(resume_from_checkpoint="best/checkpoint-6")
tell(pushed=pushed, resumed=resumed.state.global_step)
"""
OPEN_KINDS = """
import json, sys, torch, speechprompt_hf
from transformers import AutoModelForAudioClassification
IDS = torch.tensor([[2, 9, 10, 50, 0]])
told = {}
for name in sys.argv[1:]:
    told[name] = AutoModelForAudioClassification.from_pretrained(name).eval()(input_ids=IDS).logits[0].tolist()
print(json.dumps(told))
"""


@pytest.mark.slow
def test_other_methods_a_remembered_base_skipped_pushes_and_a_lost_best_model(hub, child, run_python):
    told, warned = child(KINDS)
    found = json.loads(run_python(OPEN_KINDS, *told["pushed"]).stdout.splitlines()[-1])
    for name, logits in told["pushed"].items():
        assert found[name] == pytest.approx(logits, abs=1e-5)
        assert json.loads(hub.read(name, "config.json"))["base_revision"] == hub.commits(BASE)[0].oid
    assert any(path.startswith("language_model/") for path in hub.files("me/finetune"))
    assert "adapter_config.json" not in hub.files("me/probe")
    assert [commit.title for commit in hub.commits(REPO)[:-1]] == ["Training in progress, step 2"]
    assert "the best model so far, of step 3, is not in best" in warned and told["resumed"] == 9


def test_a_checkpoint_that_is_there_is_not_replaced(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    where = {"token": "token", "endpoint": hub.url}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(huggingface_hub.constants, name, str(tmp_path / "cache"))
    files = {f"last-checkpoint/{name}": b"x" for name in RESUMED_FROM - {"trainer_state.json"}}
    state = "last-checkpoint/trainer_state.json"
    hub.add_repo(REPO, {**files, state: '{"global_step": 3}', "last-checkpoint/pytorch_model.bin": b"x"})
    folder = download_checkpoint(REPO, tmp_path / "run", **where)
    assert folder == str(tmp_path / "run" / "checkpoint-3")
    # Nothing but what is resumed from is fetched, and nothing is left of the download.
    assert {path.name for path in Path(folder).iterdir()} == RESUMED_FROM
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-3"]
    with pytest.raises(ConfigurationError, match=r"checkpoint-3 is there already \(resume from it"):
        download_checkpoint(REPO, tmp_path / "run", **where)
    for step in ("../../x", 0, None):
        hub.write(REPO, {state: json.dumps({"global_step": step})})
        with pytest.raises(HubError, match=re.escape(f"it is of step {step!r}")):
            download_checkpoint(REPO, tmp_path / "never", **where)
    assert not (tmp_path / "never").exists()
