"""Publishing through the real client: what arrives, what is refused, what a failure leaves."""

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

from speechprompt_hf import (
    DEFAULT_BASE,
    GSLMConfig,
    GSLMForCausalLM,
    SpeechPromptForAudioClassification,
    SpeechUnitProcessor,
)
from speechprompt_hf.core.embedded import resolve_base
from speechprompt_hf.core.errors import AdapterError, ConfigurationError, FingerprintMismatchError, HubError
from speechprompt_hf.hub import client
from speechprompt_hf.hub.push import push_adapter, push_base
from speechprompt_hf.hub.staging import stage_adapter
from tests.fixtures.repositories import ADAPTER_FILES, BASE
from tests.hub.faults import Fault, disk_full

# huggingface_hub 2.4 uploads with a call that its own network library calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")

ADAPTER = "org/keywords"


@pytest.fixture(autouse=True)
def client_of_the_loopback(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An adapter on the embedded base, as training saves it."""
    folder = tmp_path_factory.mktemp("adapter") / "keywords"
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    model = SpeechPromptForAudioClassification.from_base(
        DEFAULT_BASE, ["yes", "no"], readout="pooled", processor=processor
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "adapter")


@pytest.fixture
def to(hub):
    return {"endpoint": hub.url, "token": "token"}


@pytest.fixture
def base_on_the_hub(to):
    return push_base(DEFAULT_BASE, BASE, **to)


def content(hub, repo, path, revision="main"):
    return json.loads(hub.read(repo, path, revision))


def test_a_repository_holds_the_adapter_and_nothing_else(hub, to, adapter, base_on_the_hub):
    for name in ("training_args.bin", "optimizer.pt", "model.safetensors", "report.txt"):
        (adapter / name).write_bytes(b"private")
    (adapter / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (adapter / "checkpoints" / "checkpoint-1" / "model.safetensors").write_bytes(b"raw vectors")
    done = push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert set(hub.files(ADAPTER)) - {".gitattributes"} == ADAPTER_FILES == set(done.files)
    assert done.num_bytes == sum(len(hub.read(ADAPTER, name)) for name in ADAPTER_FILES) < 100_000
    for name in ("adapter_model.safetensors", "verbalizer.safetensors"):
        assert hub.read(ADAPTER, name) == (adapter / name).read_bytes()
    # One push is one commit on top of the repository's own first one.
    assert hub.commits(ADAPTER)[0].oid == done.commit
    assert len(hub.commits(ADAPTER)) == 2


def test_an_adapter_names_its_base_by_id_and_commit(hub, to, adapter, base_on_the_hub):
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    commit = base_on_the_hub.commit
    config, peft = content(hub, ADAPTER, "config.json"), content(hub, ADAPTER, "adapter_config.json")
    encoder = content(hub, ADAPTER, "processor_config.json")["unit_encoder"]
    assert (config["base_model_name_or_path"], config["base_revision"]) == (BASE, commit)
    assert (peft["base_model_name_or_path"], peft["revision"]) == (BASE, commit)
    assert (encoder["source"], encoder["revision"]) == (BASE, commit)
    everything = b"".join(hub.read(ADAPTER, name) for name in ADAPTER_FILES)
    assert str(adapter.parent).encode() not in everything
    # The folder itself stays as it was.
    assert json.loads((adapter / "config.json").read_text())["base_model_name_or_path"] == DEFAULT_BASE


def test_the_commit_of_a_tag_is_written(hub, to, adapter, base_on_the_hub):
    hub.tag(BASE, "v1")
    hub.write(BASE, {"NOTES.md": "later"})
    push_adapter(adapter, ADAPTER, base=BASE, base_revision="v1", **to)
    assert content(hub, ADAPTER, "adapter_config.json")["revision"] == base_on_the_hub.commit


def test_the_embedded_base_has_to_be_on_the_hub_first(hub, to, adapter):
    with pytest.raises(HubError, match=r"was not found on the Hub.*push-base"):
        push_adapter(adapter, ADAPTER, **to)
    assert ADAPTER not in hub.repos()


def test_a_base_folder_remembers_where_it_was_pushed(hub, to, adapter, tmp_path):
    folder = shutil.copytree(resolve_base(DEFAULT_BASE), tmp_path / "base")
    lm_of_folder = SpeechPromptForAudioClassification.from_base(folder, ["a", "b"])
    lm_of_folder.save_pretrained(tmp_path / "b")
    with pytest.raises(HubError, match=r"is not on the Hub.*push-base"):
        push_adapter(tmp_path / "b", ADAPTER, **to)
    done = push_base(folder, BASE, **to)
    push_adapter(tmp_path / "b", ADAPTER, **to)
    assert content(hub, ADAPTER, "config.json")["base_revision"] == done.commit


def test_a_base_of_other_weights_is_refused(hub, to, adapter, tmp_path):
    folder = shutil.copytree(resolve_base(DEFAULT_BASE), tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    weights["model.layer_norm.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    push_base(folder, BASE, **to)
    with pytest.raises(FingerprintMismatchError, match="has weights"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    hub.write(BASE, {"fingerprint.json": None})  # pushed by other means: the weights themselves are read
    with pytest.raises(FingerprintMismatchError, match="has weights"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert ADAPTER not in hub.repos()


def test_a_base_of_other_units_is_refused(hub, to, adapter, base_on_the_hub):
    identity = content(hub, BASE, "fingerprint.json")
    hub.write(BASE, {"fingerprint.json": json.dumps({**identity, "units": "0" * 64})})
    with pytest.raises(FingerprintMismatchError, match="makes units 0000"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)


def test_a_second_push_replaces_what_is_ours_and_keeps_what_is_not(hub, to, adapter, base_on_the_hub):
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    card = hub.read(ADAPTER, "README.md").decode().replace("## Limits", "## Our own words\n\nhello\n\n## Limits", 1)
    hub.write(ADAPTER, {"NOTES.md": "mine", "model.safetensors": b"stale", "README.md": card})
    (adapter / "dict.txt").unlink()
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    files = hub.files(ADAPTER)
    assert "NOTES.md" in files and "dict.txt" not in files and "model.safetensors" not in files
    assert "Our own words" in hub.read(ADAPTER, "README.md").decode()


def test_a_repository_of_another_kind_is_not_overwritten(hub, to, adapter, base_on_the_hub):
    with pytest.raises(HubError, match=r"holds a model of type 'gslm', which a push would overwrite"):
        push_adapter(adapter, BASE, base=BASE, **to)
    assert hub.commits(BASE)[0].oid == base_on_the_hub.commit
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    with pytest.raises(HubError, match="holds a model of type 'speechprompt'"):
        push_base(DEFAULT_BASE, ADAPTER, **to)


def test_code_that_we_did_not_generate_stays(hub, to, base_on_the_hub):
    generated = hub.read(BASE, "modeling_gslm.py")
    hub.write(BASE, {"train.py": "print(1)", "scripts/x.py": "print(2)", "modeling_old.py": generated})
    push_base(DEFAULT_BASE, BASE, **to)
    files = hub.files(BASE)
    assert "train.py" in files and "scripts/x.py" in files and "modeling_old.py" not in files


def test_an_edit_between_reading_and_writing_is_not_lost(hub, to, adapter, base_on_the_hub, monkeypatch):
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    create = huggingface_hub.HfApi.create_repo

    def edited_meanwhile(self, *arguments, **keywords):
        hub.write(ADAPTER, {"README.md": "mine"}, title="an edit")
        return create(self, *arguments, **keywords)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", edited_meanwhile)
    with pytest.raises(HubError, match="somebody else changed it"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert hub.read(ADAPTER, "README.md") == b"mine"


def test_an_unchanged_adapter_stays_the_same(hub, to, adapter, base_on_the_hub):
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    before = {name: hub.read(ADAPTER, name) for name in hub.files(ADAPTER)}
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert {name: hub.read(ADAPTER, name) for name in hub.files(ADAPTER)} == before


def test_a_branch_and_a_pull_request_leave_main_alone(hub, to, adapter, base_on_the_hub):
    push_adapter(adapter, ADAPTER, base=BASE, branch="trial", **to)
    assert "config.json" not in hub.files(ADAPTER)
    assert "config.json" in hub.files(ADAPTER, "trial")


@pytest.mark.parametrize("missing", ["verbalizer.safetensors", "adapter_model.safetensors", "config.json"])
def test_an_incomplete_adapter_is_refused(hub, to, adapter, base_on_the_hub, missing):
    (adapter / missing).unlink()
    with pytest.raises(AdapterError, match=missing.replace(".", r"\.")):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert ADAPTER not in hub.repos()


def test_a_base_in_the_place_of_an_adapter_is_named(to, tmp_path):
    with pytest.raises(AdapterError, match="push-base"):
        push_adapter(resolve_base(DEFAULT_BASE), ADAPTER, base=BASE, **to)


def test_a_base_with_pickled_weights_is_refused(to, tmp_path):
    folder = shutil.copytree(resolve_base(DEFAULT_BASE), tmp_path / "base")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=r"no model\.safetensors"):
        push_base(folder, BASE, **to)


def test_a_folder_that_is_not_there_is_named(to, tmp_path):
    with pytest.raises(AdapterError, match=f"there is no folder {tmp_path}/absent .*speechprompt train"):
        push_adapter(tmp_path / "absent", ADAPTER, base=BASE, **to)
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterError, match=f"{tmp_path}/file is a file"):
        push_adapter(tmp_path / "file", ADAPTER, base=BASE, **to)


def test_a_misspelt_embedded_base_is_told_the_real_name(to):
    with pytest.raises(ConfigurationError, match=f"there is no folder speechprompt-hf/defualt .*{DEFAULT_BASE}"):
        push_base("speechprompt-hf/defualt", BASE, **to)


def test_only_a_base_is_named_as_the_base(hub, to, adapter, base_on_the_hub):
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    with pytest.raises(HubError, match=rf"{ADAPTER} is an adapter \(model_type 'speechprompt'\), no base .*{BASE}"):
        push_adapter(adapter, "org/second", base=ADAPTER, **to)
    hub.add_repo("org/bert", {"config.json": json.dumps({"model_type": "bert"})})
    with pytest.raises(HubError, match=r"org/bert holds a model of type 'bert', which is no base .*--base"):
        push_adapter(adapter, "org/second", base="org/bert", **to)
    hub.add_repo("org/plain", {"adapter_config.json": "{}"})
    with pytest.raises(HubError, match=r"org/plain has no config\.json, so it is no base .*--base"):
        push_adapter(adapter, "org/second", base="org/plain", **to)
    assert "org/second" not in hub.repos()


def test_what_was_edited_on_the_hub_is_kept_and_told(hub, to, adapter, base_on_the_hub):
    first = push_adapter(adapter, ADAPTER, base=BASE, license="mit", language="en", **to)
    again = push_adapter(adapter, ADAPTER, base=BASE, license="apache-2.0", **to)
    assert first.kept == again.kept == () and "license: apache-2.0" in hub.read(ADAPTER, "README.md").decode()
    card = hub.read(ADAPTER, "README.md").decode()
    hub.write(ADAPTER, {"README.md": card.replace("license: apache-2.0", "license: cc0-1.0")})
    done = push_adapter(adapter, ADAPTER, base=BASE, license="mit", **to)
    assert done.kept == ("the metadata key 'license' was set to cc0-1.0 by somebody and stays; mit was not written",)
    assert "license: cc0-1.0" in hub.read(ADAPTER, "README.md").decode()
    assert push_adapter(adapter, ADAPTER, base=BASE, license="cc0-1.0", **to).kept == ()


@pytest.mark.parametrize("name", ["keywords", "/keywords", "a/b/c", "org/", "org/na me"])
def test_impossible_ids_are_refused(to, adapter, name):
    with pytest.raises(ConfigurationError, match="no repository id"):
        push_adapter(adapter, name, base=BASE, **to)
    with pytest.raises(ConfigurationError, match="no repository id"):
        push_base(DEFAULT_BASE, name, **to)


STEPS = ["/api/repos/create", "/preupload/", "/info/lfs/objects/batch", "/lfs/", "/commit/"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("step", STEPS)
def test_a_busy_hub_is_asked_again(hub, to, adapter, base_on_the_hub, step, status):
    hub.inject(Fault("status", step, method="POST|PUT", status=status, retry_after_s=0))
    done = push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert len(hub.commits(ADAPTER)) == 2 and set(done.files) == ADAPTER_FILES


@pytest.mark.parametrize("kind", ["drop", "status"])
@pytest.mark.parametrize("step", ["/preupload/", "/commit/"])
def test_an_interrupted_push_changes_nothing_and_the_next_one_succeeds(hub, to, adapter, base_on_the_hub, step, kind):
    hub.inject(Fault(kind, step, method="POST", times=None))
    with pytest.raises(HubError, match=f"cannot push to {ADAPTER}.*again"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert hub.files(ADAPTER) == [".gitattributes"]
    hub.faults.clear()
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert set(hub.files(ADAPTER)) - {".gitattributes"} == ADAPTER_FILES


def test_a_lost_answer_is_no_half_push(hub, to, adapter, base_on_the_hub):
    hub.inject(Fault("lose_answer", "/commit/", method="POST"))
    with pytest.raises(HubError, match="as it was or as you wanted it"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert set(hub.files(ADAPTER)) - {".gitattributes"} == ADAPTER_FILES
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert set(hub.files(ADAPTER)) - {".gitattributes"} == ADAPTER_FILES


def test_two_pushers_at_once_do_not_mix(hub, to, adapter, base_on_the_hub, monkeypatch):
    push_adapter(adapter, ADAPTER, base=BASE, **to)
    create = huggingface_hub.HfApi.create_commit

    def another_comes_first(self, *arguments, **keywords):
        hub.write(ADAPTER, {"verbalizer.safetensors": b"of the other"}, title="the other")
        return create(self, *arguments, **keywords)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", another_comes_first)
    with pytest.raises(HubError, match=r"somebody else changed it.*push again"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert hub.commits(ADAPTER)[0].title == "the other"


def test_nobody_listening_is_one_sentence(adapter):
    with pytest.raises(HubError, match=r"cannot (read|push to).*connection failed|cannot be reached"):
        push_adapter(adapter, ADAPTER, base=BASE, endpoint="http://127.0.0.1:9", token="token")


COMMANDS = """
import json, sys
from speechprompt_cli.main import main
sys.exit(main(sys.argv[1:]))
"""


TEMPORARY_DISK_FULL = """
import sys
from speechprompt_hf.core.errors import HubError
from speechprompt_hf.hub.push import push_adapter, push_base
source, name, base = sys.argv[1:]
try:
    push_adapter(source, name, base=base) if base != "-" else push_base(source, name)
except HubError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_temporary_disk_is_named(hub, to, adapter, base_on_the_hub, run_python, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for arguments in ((adapter, ADAPTER, BASE), (resolve_base(DEFAULT_BASE), "org/another", "-")):
        done = run_python(
            TEMPORARY_DISK_FULL,
            *arguments,
            site=[disk_full(temporary, 20_000)],
            env={"TMPDIR": str(temporary)},
        )
        assert str(arguments[0]) in done.stdout and str(temporary) in done.stdout
        assert "No space left" in done.stdout and "make room, or let TMPDIR name a folder" in done.stdout
        assert arguments[1] not in hub.repos()
    assert list(temporary.iterdir()) == []


def test_a_file_that_cannot_be_copied_is_named(hub, to, adapter, base_on_the_hub, monkeypatch):
    def refuse(source, target):
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr("speechprompt_hf.hub.staging.shutil.copyfile", refuse)
    with pytest.raises(HubError, match=rf"{adapter} cannot be copied into .*Permission denied: '{adapter}/.*look at"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert ADAPTER not in hub.repos()


@pytest.mark.slow
def test_the_command_line(hub, run_python, adapter):
    refused = run_python(COMMANDS, "push", adapter, ADAPTER, check=False)
    assert refused.returncode == 2 and "push-base" in refused.stderr and "Traceback" not in refused.stderr
    base = json.loads(run_python(COMMANDS, "push-base", DEFAULT_BASE, BASE, "--json").stdout)
    done = run_python(COMMANDS, "push", adapter, ADAPTER, "--base", BASE, "--license", "cc0-1.0", "--language", "lt")
    assert done.stdout.startswith(f"{ADAPTER}\t{hub.commits(ADAPTER)[0].oid}\t8 files")
    assert content(hub, ADAPTER, "config.json")["base_revision"] == base["commit"] == hub.commits(BASE)[0].oid
    card = hub.read(ADAPTER, "README.md").decode()
    assert "license: cc0-1.0" in card and "lt" in card
    hub.write(ADAPTER, {"README.md": card.replace("license: cc0-1.0", "license: mit")})
    done = run_python(COMMANDS, "push", adapter, ADAPTER, "--base", BASE, "--license", "apache-2.0", "--json")
    (kept,) = json.loads(done.stdout)["kept"]
    assert "'license' was set to mit" in kept and f"the card stays as it was edited: {kept}" in done.stderr
    refused = run_python(COMMANDS, "push", adapter, ADAPTER, "--base", BASE, check=False, env={"HF_TOKEN": "reader"})
    assert refused.returncode == 2 and "hf auth login" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("num_virtual_tokens", [5, 8])
def test_a_repository_of_a_full_size_base_is_below_one_megabyte(tmp_path, num_virtual_tokens):
    # 31 intents of 6 actions, 14 objects and 4 locations, as in Fluent Speech Commands.
    sequences = [[index % 6, 6 + index % 14, 20 + index % 4] for index in range(31)]
    model = SpeechPromptForAudioClassification.from_base(
        GSLMForCausalLM(GSLMConfig()),
        [f"intent {index}" for index in range(31)],
        label_sequences=sequences,
        readout="pooled",
        num_virtual_tokens=num_virtual_tokens,
    )
    model.save_pretrained(tmp_path / "adapter")
    SpeechUnitProcessor.from_pretrained(DEFAULT_BASE).save_pretrained(tmp_path / "adapter")
    (tmp_path / "stage").mkdir()
    stage_adapter(tmp_path / "adapter", tmp_path / "stage", base_id=BASE, base_commit="0" * 40)
    size = sum(path.stat().st_size for path in (tmp_path / "stage").iterdir())
    assert 4 * model.num_trained_parameters() < size < 1_000_000


def test_a_push_of_what_is_there_does_not_claim_somebody_elses_commit(hub, adapter, base_on_the_hub, to, monkeypatch):
    first = push_adapter(adapter, ADAPTER, base=BASE, **to)
    assert push_adapter(adapter, ADAPTER, base=BASE, **to).commit == first.commit  # nothing to commit
    ask = HfApi.repo_info

    def somebody_pushes_meanwhile(self, *args, **options):
        # The client asks for the head it would have made; everybody else asked before.
        if type(self) is not HfApi:
            hub.write(ADAPTER, {"NOTES.md": "later"})
        return ask(self, *args, **options)

    monkeypatch.setattr(HfApi, "repo_info", somebody_pushes_meanwhile)
    with pytest.raises(HubError, match="somebody else changed it in the meantime"):
        push_adapter(adapter, ADAPTER, base=BASE, **to)
