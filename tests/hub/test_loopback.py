"""The loopback Hub through huggingface_hub, datasets, transformers and peft, and bare."""

import contextlib
import hashlib
import http.client
import io
import json
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pyarrow
import pyarrow.parquet
import pytest

from tests.hub.loopback import HubError, LoopbackHub, Repo

START = """
import io, json, os, sys
from pathlib import Path
from huggingface_hub import *
from huggingface_hub.errors import *
api = HfApi()
told = {}

def failure(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except Exception as error:
        return type(error).__name__
"""
END = "\nprint(json.dumps(told))\n"


def told(done):
    """What the child process put into its dictionary `told`."""
    return json.loads(done.stdout.splitlines()[-1])


UPLOAD = (
    START
    + """
api.create_repo("org/a")
told["again"] = failure(api.create_repo, "org/a")
api.create_repo("org/a", exist_ok=True)
folder = Path("up")
(folder / "sub").mkdir(parents=True)
(folder / "README.md").write_text("---\\nlicense: mit\\npipeline_tag: audio-classification\\n---\\nhello")
(folder / "model.safetensors").write_bytes(bytes(range(256)) * 8000)
(folder / "large.txt").write_text("x" * 1_000_001)
(folder / "empty.bin").write_bytes(b"")
(folder / "sub" / "é 1%.txt").write_text("hi")
told["first"] = api.upload_folder(
    repo_id="org/a", folder_path=folder, commit_message="one", commit_description="more").oid
told["unchanged"] = api.upload_folder(repo_id="org/a", folder_path=folder).oid
told["names"] = api.list_repo_files("org/a")
here = Path(api.snapshot_download("org/a"))
told["equal"] = all((here / name.relative_to(folder)).read_bytes() == name.read_bytes()
                    for name in folder.rglob("*") if name.is_file())
info = api.model_info("org/a", files_metadata=True)
told["info"] = [info.sha, info.pipeline_tag, info.card_data.license, info.private]
told["lfs"] = sorted(each.rfilename for each in info.siblings if each.lfs)
told["checks"] = len(api.verify_repo_checksums("org/a").mismatches)
told["tree"] = [each.path for each in api.list_repo_tree("org/a", "sub")]
told["who"] = api.whoami()["name"]
api.upload_folder(repo_id="org/a", folder_path=folder / "sub", delete_patterns=["*.bin", "large.txt"])
stream = io.BytesIO(bytes(1_500_000))
api.upload_file(repo_id="org/streamed", path_or_fileobj=stream, path_in_repo="zeros.dat")
told["many"] = len(list(api.list_repo_tree("org/many", recursive=True)))
told["top"] = [each.path for each in api.list_repo_tree("org/many")]
told["last"] = [each.last_commit.title for each in api.get_paths_info("org/many", ["d", "e"], expand=True)]
told["commits"] = [each.title for each in api.list_repo_commits("org/a")]
card = {"path_or_fileobj": b"---\\na: [\\n---\\n", "path_in_repo": "README.md"}
told["bad card"] = failure(api.upload_file, repo_id="org/a", **card)
"""
    + END
)


def test_uploads_and_downloads_are_equal(hub, run_python):
    hub.add_repo("org/streamed")
    hub.add_repo("org/many", {f"d/{number:04}": "" for number in range(1500)})
    hub.write("org/many", {"e": ""}, title="e")
    seen = told(run_python(UPLOAD))
    assert seen["again"] == "HfHubHTTPError" and seen["bad card"] == "ValueError"
    names = [".gitattributes", "README.md", "empty.bin", "large.txt", "model.safetensors", "sub/é 1%.txt"]
    assert seen["names"] == names and seen["equal"]
    assert seen["lfs"] == ["large.txt", "model.safetensors"] and seen["checks"] == 0
    assert seen["tree"] == ["sub/é 1%.txt"] and seen["who"] == "me"
    assert seen["info"] == [seen["first"], "audio-classification", "mit", False]
    last, first, created = hub.commits("org/a")
    assert (first.oid, first.title, first.message, first.author) == (seen["first"], "one", "more", "me")
    assert seen["unchanged"] == first.oid and created.title == "initial commit"
    assert seen["commits"] == [last.title, "one", "initial commit"]
    assert hub.files("org/a") == [".gitattributes", "README.md", "model.safetensors", "sub/é 1%.txt", "é 1%.txt"]
    assert hub.read("org/a", "large.txt", first.oid) == b"x" * 1_000_001
    assert len(hub.requests("^PUT /lfs/")) == 3, "large files are uploaded once"
    assert hub.read("org/streamed", "zeros.dat") == bytes(1_500_000)
    # The two files, one folder; the second thousand comes on a second page.
    assert (seen["many"], seen["top"]) == (1503, [".gitattributes", "d", "e"])
    assert seen["last"] == ["write", "e"]
    assert not hub.requests(" 501$")


REVISIONS = (
    START
    + """
main = api.repo_info("org/a").sha
api.create_tag("org/a", tag="v1")
api.create_branch("org/a", branch="feature/x", revision="v1")
told["tag again"] = failure(api.create_tag, "org/a", tag="v1")
told["branch again"] = failure(api.create_branch, "org/a", branch="feature/x")
api.create_tag("org/a", tag="v1", exist_ok=True)
api.upload_file(repo_id="org/a", path_or_fileobj=b"new", path_in_repo="config.json", revision="feature/x")
told["branch"] = Path(hf_hub_download("org/a", "config.json", revision="feature/x")).read_text()
told["tag"] = Path(hf_hub_download("org/a", "config.json", revision="v1")).read_text()
refs = api.list_repo_refs("org/a")
told["refs"] = [[each.name for each in refs.branches], [each.ref for each in refs.tags]]
add = CommitOperationAdd("a.txt", b"a")
api.create_commit("org/a", [add], commit_message="right parent", parent_commit=main)
try:
    api.create_commit("org/a", [CommitOperationAdd("b.txt", b"b")], commit_message="late", parent_commit=main)
except HfHubHTTPError as error:
    told["conflict"] = error.response.status_code
pull = api.create_commit("org/a", [CommitOperationAdd("c.txt", b"c")], commit_message="please", create_pr=True)
told["pull"] = [pull.pr_revision, api.file_exists("org/a", "c.txt", revision="refs/pr/1")]
told["exists"] = [api.file_exists("org/a", name) for name in ("a.txt", "b.txt", "c.txt")]
api.delete_file("a.txt", "org/a")
told["deleted"] = api.file_exists("org/a", "a.txt")
told["no file"] = failure(api.delete_file, "a.txt", "org/a")
api.delete_tag("org/a", tag="v1")
api.delete_branch("org/a", branch="feature/x")
told["no tag"] = failure(api.delete_tag, "org/a", tag="v1")
told["main"] = failure(api.delete_branch, "org/a", branch="main")
told["repo"] = [
    failure(hf_hub_download, "org/none", "config.json"), failure(api.model_info, "org/none"),
    failure(api.dataset_info, "org/a")]
told["revision"] = [
    failure(hf_hub_download, "org/a", "config.json", revision="v1"), failure(api.model_info, "org/a", revision="v9")]
told["entry"] = failure(hf_hub_download, "org/a", "none.json")
told["paths"] = [each.path for each in api.get_paths_info("org/a", ["none", "config.json"])]
told["no branch"] = failure(api.upload_file, repo_id="org/a", path_or_fileobj=b"", path_in_repo="x", revision="none")
api.delete_repo("org/a")
told["gone"] = api.repo_exists("org/a")
"""
    + END
)


def test_revisions_and_errors_are_the_hubs(hub, run_python):
    hub.add_repo("org/a", {"config.json": "old"})
    seen = told(run_python(REVISIONS))
    assert seen["tag again"] == seen["branch again"] == "HfHubHTTPError"
    assert (seen["branch"], seen["tag"]) == ("new", "old")
    assert seen["refs"] == [["main", "feature/x"], ["refs/tags/v1"]]
    assert seen["conflict"] == 412 and seen["exists"] == [True, False, False]
    assert seen["pull"] == ["refs/pr/1", True]
    assert seen["deleted"] is False and seen["no file"] == "RemoteEntryNotFoundError"
    assert seen["no tag"] == "RevisionNotFoundError" and seen["main"] == "HfHubHTTPError"
    assert seen["repo"] == ["RepositoryNotFoundError"] * 3
    assert seen["revision"] == ["RevisionNotFoundError"] * 2 and seen["no branch"] == "RevisionNotFoundError"
    assert seen["entry"] == "RemoteEntryNotFoundError" and seen["paths"] == ["config.json"]
    assert seen["gone"] is False and hub.repos() == []


ACCESS = (
    START
    + """
def opened(token, repo="org/secret"):
    return failure(hf_hub_download, repo, "config.json", token=token, cache_dir=f"cache-{token}")

told["private"] = {str(token): opened(token) for token in ("token", "reader", False, "wrong")}
told["gated"] = {str(token): opened(token, "org/gated") for token in ("token", "reader", False)}
told["gated info"] = api.model_info("org/gated", token=False).gated
told["write"] = {}
for token in ("reader", False):
    try:
        api.upload_file(repo_id="org/open", path_or_fileobj=b"x", path_in_repo="x", token=token)
    except HfHubHTTPError as error:
        told["write"][str(token)] = error.response.status_code
told["made"] = failure(api.create_repo, "org/new", token="reader")
api.create_repo("org/mine", private=True)
told["mine"] = [api.model_info("org/mine").private, api.repo_exists("org/mine", token=False)]
api.update_repo_settings("org/mine", private=False)
told["published"] = api.repo_exists("org/mine", token=False)
"""
    + END
)


def test_private_and_gated_repositories_need_the_right_token(hub, run_python):
    hub.add_repo("org/secret", {"config.json": "{}"}, private=True)
    hub.add_repo("org/gated", {"config.json": "{}"}, gated=True)
    hub.add_repo("org/open")
    seen = told(run_python(ACCESS))
    missing = "RepositoryNotFoundError"
    assert seen["private"] == {"token": None, "reader": missing, "False": missing, "wrong": "HfHubHTTPError"}
    assert seen["gated"] == {"token": None, "reader": "GatedRepoError", "False": "GatedRepoError"}
    assert seen["gated info"] == "manual" and seen["write"] == {"reader": 403, "False": 401}
    assert seen["made"] == "HfHubHTTPError" and seen["mine"] == [True, False] and seen["published"] is True


DATASET = (
    START
    + """
from datasets import Dataset, load_dataset
rows = load_dataset("org/rows", split="train")
told["rows"] = list(rows["text"])
told["streamed"] = [row["text"] for row in load_dataset("org/rows", split="test", streaming=True)]
told["configured"] = load_dataset("org/rows", revision="v0", split="train").num_rows
Dataset.from_dict({"x": [1, 2, 3]}).push_to_hub("org/pushed")
told["pushed"] = load_dataset("org/pushed", split="train")["x"][:]
told["info"] = api.dataset_info("org/pushed").id
"""
    + END
)


def parquet(values):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": values}), sink)
    return sink.getvalue()


def test_datasets_are_loaded_and_pushed(hub, run_python):
    hub.add_repo("datasets/org/rows", {"data/train.parquet": parquet(["a"]), "data/test.parquet": parquet(["c"])})
    hub.tag("datasets/org/rows", "v0")
    hub.write("datasets/org/rows", {"data/train.parquet": parquet(["a", "b"])})
    seen = told(run_python(DATASET))
    assert seen["rows"] == ["a", "b"] and seen["streamed"] == ["c"] and seen["configured"] == 1
    assert seen["pushed"] == [1, 2, 3] and seen["info"] == "org/pushed"
    assert "data/train-00000-of-00001.parquet" in hub.files("datasets/org/pushed")


MODELS = (
    START
    + """
import torch
from peft import AutoPeftModelForCausalLM, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

base = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, bos_token_id=0, eos_token_id=1)).eval()
base.push_to_hub("org/base")
base.name_or_path = base.config._name_or_path = "org/base"
config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, base_model_name_or_path="org/base")
tuned = get_peft_model(base, config).eval()
tuned.push_to_hub("org/prompt")
ids = torch.tensor([[1, 2, 3]])
again = [PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("org/base"), "org/prompt"),
         AutoPeftModelForCausalLM.from_pretrained("org/prompt")]
with torch.no_grad():
    told["difference"] = [float((each.eval()(ids).logits - tuned(ids).logits).abs().max()) for each in again]
    told["effect"] = float((tuned(ids).logits[:, -3:] - base(ids).logits).abs().max())
told["library"] = [api.model_info(name).library_name for name in ("org/prompt", "org/cardless")]
"""
    + END
)


def test_transformers_and_peft_push_and_open(hub, run_python):
    hub.add_repo("org/cardless", {"adapter_config.json": "{}"})
    seen = told(run_python(MODELS))
    assert seen["difference"] == [0.0, 0.0] and seen["effect"] > 0
    # The card that the push itself wrote says transformers.
    assert seen["library"] == ["transformers", "peft"]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(hub.files("org/prompt"))
    assert hub.repo("org/base").commit_at("main").files["model.safetensors"].lfs
    assert not hub.requests(" 501$")


def ask(hub, method, path, body=b"", **headers):
    """One request without any client: status, headers, body."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    address = urllib.parse.urlsplit(hub.url)
    with contextlib.closing(http.client.HTTPConnection(address.hostname, address.port)) as connection:
        connection.request(method, path, body, {"Authorization": "Bearer token", **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def commit(hub, lines, repo="org/a", parent=None):
    header = {"key": "header", "value": {"summary": "s"} | ({"parentCommit": parent} if parent else {})}
    text = "\n".join(json.dumps(line) for line in [header, *lines])
    return ask(hub, "POST", f"/api/models/{repo}/commit/main", text.encode())[0]


def text_file(path):
    return {"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}}


def test_a_commit_is_whole_or_nothing(hub):
    hub.add_repo("org/a", {"keep/x": "1"})
    before = [(each.oid, dict(each.files)) for each in hub.commits("org/a")]
    absent = {"key": "lfsFile", "value": {"path": "m.bin", "algo": "sha256", "oid": "0" * 64, "size": 1}}
    assert commit(hub, [text_file("new"), absent]) == 400
    assert commit(hub, [text_file("new"), {"key": "deletedFolder", "value": {"path": "none"}}]) == 404
    assert commit(hub, [text_file("new"), {"key": "rename", "value": {}}]) == 400
    assert [(each.oid, dict(each.files)) for each in hub.commits("org/a")] == before
    assert commit(hub, [text_file("new"), {"key": "deletedFolder", "value": {"path": "keep/"}}]) == 200
    assert hub.files("org/a") == [".gitattributes", "new"]
    assert ask(hub, "PUT", "/lfs/" + "0" * 64, b"other")[0] == 400 and not hub.lfs.get("0" * 64)
    assert ask(hub, "POST", "/lfs/verify", {"oid": "0" * 64, "size": 5})[0] == 404


def test_commits_at_the_same_time_follow_each_other(hub, monkeypatch):
    commit_at = Repo.commit_at

    def slowly(repo, revision):
        found = commit_at(repo, revision)
        time.sleep(0.005)  # so that the others would come in between
        return found

    monkeypatch.setattr(Repo, "commit_at", slowly)
    hub.add_repo("org/a")
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda n: commit(hub, [text_file(f"{n}")]), range(40))) == {200}
        assert len(hub.files("org/a")) == 41 and len(hub.commits("org/a")) == 41
        parent = hub.commits("org/a")[0].oid
        statuses = list(pool.map(lambda n: commit(hub, [text_file(f"late{n}")], parent=parent), range(16)))
    assert sorted(statuses) == [200] + [412] * 15


def test_parts_of_files_are_served(hub):
    hub.add_repo("org/a", {"x.bin": b"0123456789"})
    path = "/org/a/resolve/main/x.bin"
    for wanted, body, span in (
        ("2-4", b"234", "2-4"),
        ("7-", b"789", "7-9"),
        ("-2", b"89", "8-9"),
        ("8-99", b"89", "8-9"),
    ):
        status, headers, got = ask(hub, "GET", path, Range=f"bytes={wanted}")
        assert (status, got, headers["Content-Range"]) == (206, body, f"bytes {span}/10")
    status, headers, _ = ask(hub, "GET", path, Range="bytes=10-")
    assert (status, headers["Content-Range"]) == (416, "bytes */10")
    status, headers, body = ask(hub, "HEAD", path)
    assert (status, body, headers["Content-Length"], headers["X-Linked-Size"]) == (200, b"", "10", "10")
    assert headers["ETag"] == headers["X-Linked-Etag"] == f'"{hashlib.sha256(b"0123456789").hexdigest()}"'


def test_what_is_not_served_says_so(hub):
    status, headers, _ = ask(hub, "GET", "/api/spaces/org/a/runtime")
    assert status == 501 and headers["X-Error-Message"] == "not served: GET /api/spaces/org/a/runtime"


def test_mistakes_inside_the_server_are_kept():
    with LoopbackHub() as hub:
        assert ask(hub, "POST", "/api/repos/create", b"no json")[0] == 500
    assert len(hub.errors) == 1 and "JSONDecodeError" in hub.errors[0]
    with pytest.raises(ConnectionRefusedError):
        ask(hub, "GET", "/api/whoami-v2")


def test_the_store_is_reached_without_http(hub):
    hub.add_repo("org/a", {"a/b.txt": "1", "c.bin": b"2"})
    with pytest.raises(HubError, match="already created"):
        hub.add_repo("org/a")
    first = hub.commits("org/a")[0].oid
    hub.write("org/a", {"a/b.txt": None, "d": "3"}, title="next")
    assert hub.files("org/a") == [".gitattributes", "c.bin", "d"] and hub.read("org/a", "a/b.txt", first[:7]) == b"1"
    with pytest.raises(HubError, match="Entry not found"):
        hub.read("org/a", "a/b.txt")
    with pytest.raises(HubError, match="Invalid rev id"):
        hub.files("org/a", "v1")
