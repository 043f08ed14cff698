"""`push --space` through the real client: what a Space holds, what is refused, what a later push replaces."""

import json
import shutil
import sys

import huggingface_hub.constants
import pytest
import yaml

from speechprompt_hf import DEFAULT_BASE, SpeechPromptForAudioClassification, SpeechUnitProcessor
from speechprompt_hf.core.embedded import resolve_base
from speechprompt_hf.core.errors import HubError
from speechprompt_hf.demo import push_space
from speechprompt_hf.hub import client
from speechprompt_hf.hub.push import push_adapter, push_base
from tests.fixtures.repositories import BASE

# huggingface_hub 2.4 uploads with a call that its own network library calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")

SPACE = "org/page"
STORED = f"spaces/{SPACE}"


@pytest.fixture(autouse=True)
def client_of_the_loopback(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)


def save_adapter(base, folder):
    processor = SpeechUnitProcessor.from_pretrained(base)
    model = SpeechPromptForAudioClassification.from_base(base, ["yes", "no"], readout="pooled", processor=processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder, base_source=str(base))
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return save_adapter(DEFAULT_BASE, tmp_path_factory.mktemp("adapter") / "keywords")


@pytest.fixture
def to(hub):
    return {"endpoint": hub.url, "token": "token"}


def card(hub):
    return yaml.safe_load(hub.read(STORED, "README.md").decode().split("---\n")[1])


def test_a_space_is_one_commit_and_needs_no_base_on_the_hub(hub, to, adapter):
    done = push_space({"keywords": adapter}, SPACE, title="Words", private=True, **to)
    assert hub.repos() == [STORED] and hub.repo(STORED).private
    (made,) = [json.loads(request.data) for request in hub.requests("POST /api/repos/create")]
    assert (made["type"], made["sdk"]) == ("space", "gradio")
    assert set(hub.files(STORED)) - {".gitattributes"} == set(done.files)
    assert {"app.py", "requirements.txt", "README.md", "adapters/0-keywords/config.json"} <= set(done.files)
    assert hub.commits(STORED)[0].oid == done.commit and len(hub.commits(STORED)) == 2
    assert card(hub)["title"] == "Words" and "models" not in card(hub)
    assert done.num_bytes < 150_000
    assert str(adapter.parent).encode() not in b"".join(hub.read(STORED, name) for name in done.files)


def test_a_later_push_replaces_its_own_files_and_keeps_others(hub, to, adapter):
    push_space({"keywords": adapter, "again": adapter}, SPACE, **to)
    hub.write(STORED, {"NOTES.md": "mine", "README.md": "---\ntitle: Mine\nsdk: gradio\n---\nMy text.\n"})
    push_space({"keywords": adapter}, SPACE, **to)
    files = hub.files(STORED)
    assert "NOTES.md" in files and not any(name.startswith("adapters/1-") for name in files)
    assert hub.read(STORED, "README.md").decode().endswith("---\nMy text.\n") and card(hub)["title"] == "Mine"


def test_an_app_of_somebodys_own_is_not_overwritten(hub, to, adapter):
    hub.add_repo(STORED, {"app.py": "print('mine')"})
    with pytest.raises(HubError, match=r"org/page has an app\.py of its own"):
        push_space({"keywords": adapter}, SPACE, **to)
    assert hub.read(STORED, "app.py") == b"print('mine')"


def test_an_adapter_on_the_hub_is_named(hub, to, adapter):
    push_base(DEFAULT_BASE, BASE, **to)
    push_adapter(adapter, "org/keywords", base=BASE, **to)
    done = push_space({"keywords": "org/keywords"}, SPACE, **to)
    assert set(done.files) == {"app.py", "requirements.txt", "README.md"}
    assert "'keywords': 'org/keywords'" in hub.read(STORED, "app.py").decode()
    assert card(hub)["models"] == ["org/keywords"]


def test_a_base_in_a_folder_has_to_be_on_the_hub(hub, to, tmp_path):
    base = shutil.copytree(resolve_base(DEFAULT_BASE), tmp_path / "base")
    own = save_adapter(base, tmp_path / "own")
    with pytest.raises(HubError, match=r"is not on the Hub.*push-base"):
        push_space({"own": own}, SPACE, **to)
    assert STORED not in hub.repos()
    published = push_base(base, BASE, **to)
    push_space({"own": own}, SPACE, **to)
    values = json.loads(hub.read(STORED, "adapters/0-own/config.json"))
    assert (values["base_model_name_or_path"], values["base_revision"]) == (BASE, published.commit)
    assert card(hub)["models"] == [BASE]


def test_branches_and_pull_requests(hub, to, adapter):
    push_space({"keywords": adapter}, SPACE, **to)
    push_space({"keywords": adapter}, SPACE, title="Later", branch="next", **to)
    assert "Later" in hub.read(STORED, "app.py", "next").decode()
    assert "Later" not in hub.read(STORED, "app.py").decode()
    done = push_space({"keywords": adapter}, SPACE, title="Asked", create_pr=True, **to)
    assert "Asked" in hub.read(STORED, "app.py", "refs/pr/1").decode() and done.commit


def test_who_may_not_write_changes_nothing(hub, adapter):
    with pytest.raises(HubError, match="403"):
        push_space({"keywords": adapter}, SPACE, endpoint=hub.url, token="reader")
    assert hub.repos() == []


def test_the_command_pushes_a_space(hub, adapter, run_python, project_root):
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from speechprompt_cli.main import main; sys.exit(main())"
    done = run_python(code, project_root, "push", "--space", adapter, SPACE, "--package", "my-build", "--json")
    assert json.loads(done.stdout)["repository"] == SPACE
    assert hub.read(STORED, "requirements.txt") == b"my-build\n"
    assert sys.version_info[:2] == tuple(map(int, card(hub)["python_version"].split(".")))
