"""A campaign of faults: pushes and pulls through a bad network, locks that do nothing, a full disk, flipped bits.

What must hold after it: every commit is a whole adapter, the cache opens again, nobody saw an error that is not ours.
"""

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import product
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from speechprompt_hf import DEFAULT_BASE, SpeechPromptForAudioClassification, SpeechUnitProcessor
from speechprompt_hf.hub.push import push_adapter, push_base
from tests.fixtures.effort import thorough
from tests.fixtures.repositories import ADAPTER_FILES, BASE
from tests.hub.faults import NO_FILE_LOCKS, Fault, disk_full, file_size_limit
from tests.hub.loopback_routes import answer_request

# huggingface_hub 2.4 uploads with a call that its own network library calls deprecated.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content")]

ADAPTER = "org/keywords"
IDS = [[2, 9, 10, 50, 0]]
LABELS = (["no", "yes"], ["left", "right"])

# What every child process begins with. It writes down what it met in `told`, and prints that as its last line.
START = f"""
import json, random, shutil, sys, tempfile, time, traceback
waiting = time.sleep
time.sleep = lambda seconds: waiting(min(seconds, 0.01))  # how long clients wait between attempts is not the question
import torch
from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.core.errors import SpeechPromptError
from speechprompt_hf.hub.push import push_adapter
from speechprompt_hf.modeling.base_loading import load_base

BASE, ADAPTER, IDS = {BASE!r}, {ADAPTER!r}, torch.tensor({IDS!r})
told = {{"pushed": [], "pulled": [], "errors": [], "escaped": []}}


def attempt(what, function):
    try:
        return function()
    except SpeechPromptError as error:
        told["errors"].append([what, type(error).__name__, str(error)])
        return str(error)
    except Exception:
        told["escaped"].append([what, traceback.format_exc()])
        return ""


def pull(what, name=ADAPTER, **options):
    model = SpeechPromptForAudioClassification.from_pretrained(name, **options)
    told["pulled"].append([what, model.config.id2label, model(input_ids=IDS).logits[0].tolist()])


def pull_and_mend(what, **options):
    # What is not the network's fault is downloaded again, as a user would.
    refused = attempt(what, lambda: pull(what, **options))
    if refused and "check the network" not in refused:
        attempt(what + " anew", lambda: pull(what, force_download=True, **options))


def push(folder, name=ADAPTER):
    done = push_adapter(folder, name, base=BASE)
    told["pushed"].append([folder, done.commit])


lm = load_base({DEFAULT_BASE!r})
"""
END = "\nprint(json.dumps(told))\n"

# FOLDER FOLDER NUM_ROUNDS
ROUNDS = (
    START
    + """
folders, num_rounds = sys.argv[1:3], int(sys.argv[3])
for number in range(num_rounds):
    attempt("push", lambda: push(folders[number % 2]))
    pull_and_mend("pull", base=lm)
    if number % 4 == 1:
        pull_and_mend("pull with its base")
    if number % 4 == 3:
        fresh = tempfile.mkdtemp()
        pull_and_mend("pull into a fresh cache", base=lm, cache_dir=fresh)
        shutil.rmtree(fresh)
"""
    + END
)
# FOLDER NAMES...: each name once
PUSHES = START + "\nfor name in sys.argv[2:]:\n    attempt(name, lambda: push(sys.argv[1], name))\n" + END
PULLS = START + "\nfor name in sys.argv[1:]:\n    attempt(name, lambda: pull(name, name, base=lm))\n" + END


class Adapters:
    """Two adapters in folders, and what they answer."""

    def __init__(self, root: Path):
        processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
        self.folders, self.answers = [], []
        for index, labels in enumerate(LABELS):
            model = SpeechPromptForAudioClassification.from_base(
                DEFAULT_BASE, labels, readout="pooled", processor=processor, seed=index + 1
            )
            folder = root / str(index)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            self.folders.append(folder)
            with torch.no_grad():
                self.answers.append(model(input_ids=torch.tensor(IDS)).logits[0].tolist())
        self.bytes = self.contents()

    def contents(self):
        return [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in self.folders]

    def which(self, labels, logits):
        """Which of the two a model is: neither labels nor scores may be of the other."""
        index = LABELS.index(list(labels.values()))
        assert logits == pytest.approx(self.answers[index], abs=1e-6)
        return index


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    made = Adapters(tmp_path_factory.mktemp("adapters"))
    assert made.answers[0] != pytest.approx(made.answers[1], abs=1e-2)
    return made


@pytest.fixture
def shared(hub, adapters, monkeypatch, tmp_path):
    """The base and the first adapter on the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache of the parent"))
    to = {"endpoint": hub.url, "token": "token"}
    push_base(DEFAULT_BASE, BASE, **to)
    push_adapter(adapters.folders[0], ADAPTER, base=BASE, **to)
    return {path: hub.read(ADAPTER, path) for path in ADAPTER_FILES}


def told(done):
    return json.loads(done.stdout.splitlines()[-1])


def check_errors(result):
    assert not result["escaped"], "\n".join(f"{what}: {trace}" for what, trace in result["escaped"])
    for what, name, message in result["errors"]:
        readable = "\n" not in message and "Traceback" not in message and len(message) < 500 and message[-1] == ")"
        assert readable, f"{what}: {name}: {message}"


def check_commit(adapters, files):
    """A commit holds all of one adapter and nothing of the other; returns which."""
    assert set(files) - {".gitattributes"} == ADAPTER_FILES
    content = {path: blob.data for path, blob in files.items()}
    parsed = {path: json.loads(data) for path, data in content.items() if path.endswith(".json")}
    config = parsed["config.json"]
    index = LABELS.index(list(config["id2label"].values()))
    assert set(config["file_sha256"]) == {"adapter_model.safetensors", "verbalizer.safetensors"}
    for path, digest in config["file_sha256"].items():
        assert sha256(content[path]).hexdigest() == digest
        assert content[path] == adapters.bytes[index][path]
    assert config["base_model_name_or_path"] == parsed["adapter_config.json"]["base_model_name_or_path"] == BASE
    assert config["base_revision"] == parsed["adapter_config.json"]["revision"]
    card = content["README.md"].decode()
    assert all(label in card for label in LABELS[index])
    return index


def check_repository(hub, adapters, name=ADAPTER):
    """Every commit but the Hub's own first one is whole; returns which adapter each holds, newest first."""
    return {commit.oid: check_commit(adapters, commit.files) for commit in hub.commits(name)[:-1]}


def check_campaign(hub, adapters, run_python, results):
    """What must hold after a campaign, and with the faults gone."""
    history = check_repository(hub, adapters)
    for result in results:
        check_errors(result)
        for folder, commit in result["pushed"]:
            assert history[commit] == adapters.folders.index(Path(folder))
        for _, labels, logits in result["pulled"]:
            adapters.which(labels, logits)
    assert len(hub.commits(BASE)) == 2
    assert adapters.contents() == adapters.bytes
    hub.faults.clear()
    # The same cache: what it holds of damage is named, and gone once it is downloaded again.
    last = told(run_python(START + "\npull_and_mend('pull')\n" + END))
    check_errors(last)
    ((_, labels, logits),) = last["pulled"]
    assert adapters.which(labels, logits) == next(iter(history.values()))


def faults(chance):
    """All kinds, each with some chance at every request that it fits."""
    always = {"times": None, "probability": chance}
    body = "/org/.*/(resolve|revision)/"
    weights = "/org/keywords/resolve/.*safetensors"
    return [
        Fault("corrupt", weights, method="GET", after=60, times=2),
        Fault("corrupt", weights, method="GET", after=1000, nth=2, times=2),
        Fault("corrupt", "/org/keywords/resolve/.*/config.json", method="GET", after=0, times=1),
        Fault("drop", **always),
        Fault("lose_answer", **always),
        *(Fault("status", status=status, retry_after_s=0, **always) for status in (429, 500, 503)),
        Fault("truncate", body, method="GET", after=40, **always),
        Fault("slow", body, method="GET", chunk=1000, delay_s=0.001, **always),
    ]


@pytest.mark.timeout(240)
def test_a_hundred_faults_leave_repository_and_cache_whole(hub, shared, adapters, run_python):
    hub.inject(*faults(0.05))
    result = told(run_python(ROUNDS, *adapters.folders, 80, timeout=200))
    struck = Counter(request.fault for request in hub.log if request.fault)
    assert hub.faults.num_struck() == struck.total() >= 100
    assert set(struck) == {"drop", "lose_answer", "truncate", "status", "slow", "corrupt"}
    assert {request.status for request in hub.log if request.fault == "status"} == {429, 500, 503}
    # Through all of it most pulls and many pushes succeed.
    assert len(result["pulled"]) > 60 and len(result["pushed"]) > 10
    check_campaign(hub, adapters, run_python, [result])


@thorough
@pytest.mark.timeout(240)
def test_two_processes_without_locks_share_a_cache_and_a_repository(hub, shared, adapters, run_python):
    hub.inject(*faults(0.03))
    orders = [adapters.folders, adapters.folders[::-1]]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_python, ROUNDS, *order, 25, site=[NO_FILE_LOCKS], timeout=200) for order in orders]
        results = [told(run.result()) for run in runs]
    assert hub.faults.num_struck() >= 40
    assert all(len(result["pulled"]) > 15 and len(result["pushed"]) > 3 for result in results)
    check_campaign(hub, adapters, run_python, results)


# One thing goes wrong at each request of a push or a pull, once or from there on for good.
KINDS = {
    "drop": {"kind": "drop"},
    "lose": {"kind": "lose_answer"},
    "cut": {"kind": "truncate", "method": "GET|POST"},
    **{str(status): {"kind": "status", "status": status, "retry_after_s": 0} for status in (429, 503)},
}


def swept(hub, verb, num_requests):
    """Names of repositories, one for each kind and number of the request, and once or for good, with their faults."""
    names = []
    for kind, nth, often in product(KINDS, range(1, num_requests + 1), ("once", "always")):
        names.append(f"org/{verb}-{kind}-{nth}-{often}")
        hub.inject(Fault(path=f"{names[-1]}[/.]", nth=nth, times=1 if often == "once" else None, **KINDS[kind]))
    return names


@thorough
@pytest.mark.timeout(240)
def test_a_pull_fails_readably_at_each_request(hub, shared, adapters, run_python):
    names = swept(hub, "pull", 9)
    for name in names:
        hub.add_repo(name, shared)
    result = told(run_python(PULLS, *names, timeout=200))
    check_errors(result)
    assert hub.faults.num_struck() > 100
    assert all(adapters.which(labels, logits) == 0 for _, labels, logits in result["pulled"])
    assert len(result["pulled"]) + len(result["errors"]) == len(names) < 2 * len(result["pulled"])
    assert all("check the network and try again" in message for _, _, message in result["errors"])


@thorough
@pytest.mark.timeout(240)
def test_a_push_fails_readably_at_each_request(hub, shared, adapters, run_python):
    names = swept(hub, "push", 9)
    result = told(run_python(PUSHES, adapters.folders[1], *names, timeout=200))
    check_errors(result)
    assert hub.faults.num_struck() > 100
    for name in names:
        # Nothing, or one whole commit.
        commits = check_repository(hub, adapters, name) if name in hub.repos() else {}
        assert list(commits.values()) in ([], [1])
    assert len(result["pushed"]) + len(result["errors"]) == len(names) < 2 * len(result["pushed"])
    assert all("try again" in message for _, _, message in result["errors"])


@pytest.mark.timeout(120)
def test_a_push_in_the_middle_of_a_pull_does_not_mix_two_versions(hub, shared, adapters, run_python, monkeypatch):
    other = push_adapter(adapters.folders[1], "org/other", base=BASE, endpoint=hub.url, token="token")
    second = {path: hub.read("org/other", path) for path in other.files}
    seen = Counter()

    def moving(hub, request):
        answer = answer_request(hub, request)
        if match := re.match("/(org/moving-([0-9]+))/", request.path):
            name, when = match[1], int(match[2])
            seen[name] += 1
            if seen[name] == when:
                hub.write(name, second)
        return answer

    monkeypatch.setattr("tests.hub.loopback.answer_request", moving)
    names = [f"org/moving-{when}" for when in range(1, 13)]
    for name in names:
        hub.add_repo(name, shared)
    result = told(run_python(PULLS, *names))
    check_errors(result)
    versions = [adapters.which(labels, logits) for _, labels, logits in result["pulled"]]
    assert len(versions) + len(result["errors"]) == len(names) and 0 in versions
    assert all("check the network" not in message and "again" in message for _, _, message in result["errors"])
    # Whatever was met, the next pull from the same cache has the version of now.
    result = told(run_python(PULLS, *(name for name in names if seen[name] >= int(name.split("-")[1]))))
    assert not result["errors"] and result["pulled"]
    assert {adapters.which(labels, logits) for _, labels, logits in result["pulled"]} == {1}


# FOLDER: a push and a pull with its base on a disk that is full.
ON_A_FULL_DISK = START + "\nattempt('pull', lambda: pull('pull'))\nattempt('push', lambda: push(sys.argv[1]))\n" + END
# What the disk has room for: not for the adapter's weights, not for the base's.
ROOM = {"some files": 20_000, "an adapter": 1_000_000}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("num_bytes", ROOM.values(), ids=ROOM)
def test_a_full_disk_is_named_and_leaves_the_cache_whole(hub, shared, adapters, run_python, tmp_path, num_bytes):
    cache = tmp_path / "hf_home" / "hub"
    cache.mkdir(parents=True)
    result = told(run_python(ON_A_FULL_DISK, adapters.folders[1], site=[disk_full(cache, num_bytes)]))
    check_errors(result)
    messages = {what: message for what, _, message in result["errors"]}
    assert set(messages) == {"pull", "push"} and not result["pulled"]
    assert all("No space left" in text and "make room" in text and "HF_HOME" in text for text in messages.values())
    check_campaign(hub, adapters, run_python, [result])


@pytest.mark.timeout(120)
def test_a_limit_of_file_sizes_is_named_like_a_full_disk(hub, shared, run_python):
    code = START + "\nattempt('pull', lambda: pull('pull', base=lm))\n" + END
    result = told(run_python(code, site=[file_size_limit(20_000)]))
    check_errors(result)
    ((_, _, message),) = result["errors"]
    assert "File too large" in message and "make room" in message


# FILE:POSITION...: flips one bit of a file in the cache, pulls, and puts it back; then flips all and mends them.
FLIPS = (
    START
    + """
from pathlib import Path
from huggingface_hub import hf_hub_download
pull("whole")


def flip(place):
    name, position = place.split(":")
    path = Path(hf_hub_download(ADAPTER if "/" not in name else BASE, name.split("/")[-1])).resolve()
    data = bytearray(path.read_bytes())
    data[int(position)] ^= 1
    path.write_bytes(data)


for place in sys.argv[1:]:
    flip(place)
    attempt(place, lambda: pull(place))
    flip(place)
for place in sys.argv[1:]:
    flip(place)
pull("mended", force_download=True)
pull("afterwards")
"""
    + END
)
PLACES = [
    *(f"adapter_model.safetensors:{position}" for position in (0, 20, 60, 300, 5000, -1)),
    *(f"verbalizer.safetensors:{position}" for position in (0, 20, 60, 1000, -1)),
    "config.json:0",
    "config.json:-2",
    "adapter_config.json:0",
    "base/model.safetensors:0",
    "base/model.safetensors:1000000",
]


@pytest.mark.timeout(120)
def test_a_flipped_bit_in_the_cache_is_refused_and_mended(hub, shared, adapters, run_python):
    result = told(run_python(FLIPS, *PLACES))
    check_errors(result)
    assert [what for what, _, _ in result["errors"]] == PLACES
    for place, _, message in result["errors"]:
        assert any(word in message for word in ("damaged", "force_download", "save the adapter again", "base")), place
    assert [what for what, _, _ in result["pulled"]] == ["whole", "mended", "afterwards"]
    assert {adapters.which(labels, logits) for _, labels, logits in result["pulled"]} == {0}
