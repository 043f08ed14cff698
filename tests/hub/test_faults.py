"""Faults of the server and of the client's machine, and the fresh processes that meet them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hub.faults import NO_FILE_LOCKS, Fault, FaultPlan, disk_full, file_size_limit

START = """
import json
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
told = {}
"""
END = "\nprint(json.dumps(told))\n"
WEIGHTS = bytes(range(256)) * 8000  # 2 MB
BLOB = "/resolve/[^/]+/model.safetensors"


def told(done):
    """What the child process put into its dictionary `told`."""
    return json.loads(done.stdout.splitlines()[-1])


DOWNLOAD = START + "told['path'] = hf_hub_download('org/a', 'model.safetensors')" + END


def weights(done):
    with open(told(done)["path"], "rb") as file:
        return file.read()


BROKEN = (
    START
    + """
for name in ("drop", "lose_answer", "truncate"):
    told[name] = Path(hf_hub_download("org/a", f"{name}.bin")).read_bytes() == name.encode() + bytes(range(256)) * 8000
"""
    + END
)


def test_a_download_that_breaks_early_is_begun_again(hub, run_python):
    kinds = ("drop", "lose_answer", "truncate")
    hub.add_repo("org/a", {f"{kind}.bin": kind.encode() + WEIGHTS for kind in kinds})
    hub.inject(*(Fault(kind, f"{kind}.bin", after=1_500_000) for kind in kinds))
    assert told(run_python(BROKEN)) == dict.fromkeys(kinds, True)
    for kind in kinds:
        first, second = hub.requests(f"^GET .*{kind}.bin")
        assert first.fault == kind and (second.status, second.fault) == (200, None)


def test_a_download_that_breaks_late_is_continued(hub, run_python):
    # The client writes in pieces of 10 MiB and continues after the last whole one.
    large = WEIGHTS * 6
    hub.add_repo("org/a", {"model.safetensors": large})
    hub.inject(Fault("truncate", BLOB, method="GET", after=11_000_000))
    assert weights(run_python(DOWNLOAD)) == large
    second = hub.requests(f"^GET .*{BLOB}")[1]
    assert second.status == 206 and second.header("Range") == f"bytes={10 * 2**20}-"


def test_a_busy_hub_is_asked_again(hub, run_python):
    hub.add_repo("org/a")
    hub.inject(Fault("status", "/preupload/", status=503), Fault("status", "/preupload/", status=429, retry_after_s=1))
    run_python(START + "api.upload_file(repo_id='org/a', path_or_fileobj=b'x', path_in_repo='x')")
    assert [each.status for each in hub.requests("/preupload/")] == [503, 429, 200]
    assert hub.read("org/a", "x") == b"x"


def test_a_lost_answer_to_a_commit_has_been_acted_on(hub, run_python):
    hub.add_repo("org/a")
    hub.inject(Fault("lose_answer", "/commit/"))
    code = START + "api.upload_file(repo_id='org/a', path_or_fileobj=b'x', path_in_repo='x')"
    done = run_python(code, check=False)
    assert done.returncode != 0 and "disconnected" in done.stderr
    assert hub.read("org/a", "x") == b"x"


def test_a_flipped_bit_arrives(hub, run_python):
    hub.add_repo("org/a", {"model.safetensors": WEIGHTS})
    hub.inject(Fault("corrupt", BLOB, after=77))
    got = weights(run_python(DOWNLOAD))
    assert [index for index, pair in enumerate(zip(got, WEIGHTS, strict=True)) if pair[0] != pair[1]] == [77]


def test_a_slow_body_takes_its_time_and_is_whole(hub, run_python):
    hub.add_repo("org/a", {"model.safetensors": WEIGHTS})
    hub.inject(Fault("slow", BLOB, chunk=500_000, delay_s=0.2))
    timed = DOWNLOAD.replace("told['path']", "import time; start = time.time(); told['path']")
    done = run_python(timed.replace(END, "\ntold['seconds'] = time.time() - start" + END))
    assert weights(done) == WEIGHTS and told(done)["seconds"] >= 0.8


def test_a_full_disk_ends_a_download_and_leaves_the_rest_alone(hub, run_python, tmp_path):
    hub.add_repo("org/a", {"model.safetensors": WEIGHTS})
    (tmp_path / "cache").mkdir()
    full = disk_full(tmp_path / "cache", 100_000)
    done = run_python(DOWNLOAD, site=[full], env={"HF_HUB_CACHE": str(tmp_path / "cache")}, check=False)
    assert done.returncode != 0 and "[Errno 28] No space left on device" in done.stderr
    # The client itself takes the piece away again.
    assert max(each.stat().st_size for each in (tmp_path / "cache").rglob("*") if each.is_file()) < 1000
    elsewhere = run_python(DOWNLOAD, site=[full], env={"HF_HUB_CACHE": str(tmp_path / "other")})
    assert weights(elsewhere) == WEIGHTS


WRITERS = """
import errno, os, shutil, tempfile
from pathlib import Path

def status(write):
    try:
        write()
    except OSError as error:
        return errno.errorcode[error.errno]

source = Path("source"); source.write_bytes(b"x" * 50)
folder = Path("full"); folder.mkdir()

def low_level():
    descriptor = os.open(folder / "low", os.O_WRONLY | os.O_CREAT)
    while True:
        os.write(descriptor, b"x" * 60)

print(status(lambda: (folder / "text").write_text("x" * 60)), status(lambda: shutil.copyfile(source, folder / "copy")))
print(status(low_level), status(lambda: tempfile.NamedTemporaryFile("w", dir=folder).write("x" * 99999)))
print(sum(each.stat().st_size for each in folder.iterdir()), (folder / "text").read_text() == "x" * 60)
"""


def test_every_way_python_writes_meets_the_full_disk(run_python, tmp_path):
    done = run_python(WRITERS, site=[disk_full(tmp_path / "full", 100)])
    assert done.stdout.split() == ["None", "ENOSPC", "ENOSPC", "ENOSPC", "100", "True"]


def test_native_writers_meet_the_file_size_limit(run_python):
    code = """
import numpy, os
from safetensors.numpy import save_file
try:
    save_file({"x": numpy.zeros(100_000)}, "x.safetensors")
except Exception as error:
    print(error)
print(os.path.getsize("x.safetensors") if os.path.exists("x.safetensors") else 0)
"""
    message, size = run_python(code, site=[file_size_limit(50_000)]).stdout.splitlines()
    assert "os error 27" in message and int(size) <= 50_000


LOCKS = """
from filelock import FileLock, Timeout
from huggingface_hub.utils import WeakFileLock
with FileLock("a.lock", is_singleton=False):
    try:
        with FileLock("a.lock", timeout=0.1, is_singleton=False), WeakFileLock("a.lock", timeout=0.1):
            print("both")
    except Timeout:
        print("one")
"""


def test_locks_do_nothing_where_the_file_system_does_not_lock(run_python):
    assert run_python(LOCKS).stdout == "one\n"
    assert run_python(LOCKS, site=[NO_FILE_LOCKS]).stdout == "both\n"


TOGETHER = """
import sys, time
from pathlib import Path
import huggingface_hub.file_download
Path(sys.argv[1]).touch()
while not Path(sys.argv[2]).exists():
    time.sleep(0.01)
"""


@pytest.mark.parametrize(("site", "num_downloads"), [([], 1), ([NO_FILE_LOCKS], 2)])
def test_only_locks_keep_two_processes_from_downloading_at_once(hub, run_python, site, num_downloads):
    hub.add_repo("org/a", {"model.safetensors": WEIGHTS})
    hub.inject(Fault("slow", BLOB, times=None, chunk=200_000, delay_s=0.3))
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_python, TOGETHER + DOWNLOAD, *names, site=site) for names in ("ab", "ba")]
        assert [weights(each.result()) == WEIGHTS for each in runs] == [True, True]
    assert len(hub.requests(f"^GET .*{BLOB}")) == num_downloads


INSTALLED = """
import importlib.metadata, importlib.util, os, sys
names = [each.name for each in importlib.metadata.distributions()]
print("speechprompt-hf" in [name.replace("_", "-") for name in names], "transformers" in names)
found = [importlib.util.find_spec(name) is not None for name in ("speechprompt_hf", "speechprompt_cli")]
print(*found)
if not found[0]:
    try:
        import speechprompt_hf.core.errors
    except ModuleNotFoundError as error:
        print(error.name)
try:
    importlib.metadata.version("speechprompt-hf"); print("there")
except importlib.metadata.PackageNotFoundError:
    print("absent")
print(sys.argv[1:], sorted(key for key in os.environ if key.startswith("HF_")))
"""


def test_a_child_process_sees_the_package_only_if_it_shall(run_python, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_SURPRISE", "1")
    own = ["HF_ENDPOINT", "HF_HOME", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET"]
    last = f"['1', 'b'] {[*own, 'HF_TOKEN', 'HF_X']}"
    seen = run_python(INSTALLED, 1, "b", env={"HF_X": "1"}).stdout.splitlines()
    assert seen == ["True True", "True True", "there", last]
    seen = run_python(INSTALLED, 1, "b", env={"HF_X": "1"}, install=False).stdout.splitlines()
    assert seen == ["False True", "False False", "speechprompt_hf", "absent", last]


def test_a_failed_child_process_shows_what_it_said(run_python):
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_python("1 / 0")
    assert run_python("1 / 0", check=False).returncode == 1


def test_faults_strike_whom_they_should_and_as_often():
    plan = FaultPlan(seed=1)
    plan.add(Fault("drop", "/x", method="GET", nth=2, times=2))
    struck = [plan.choose("GET", path) is not None for path in ["/y", "/x", "/x", "/x", "/x"]]
    assert struck == [False, False, True, True, False] and plan.num_struck() == 2
    assert plan.choose("HEAD", "/x") is None

    def by_chance(seed):
        plan = FaultPlan(seed)
        plan.add(Fault("drop", times=None, probability=0.3))
        return [plan.choose("GET", "/") is not None for _ in range(1000)]

    assert by_chance(5) == by_chance(5) != by_chance(6) and 250 < sum(by_chance(5)) < 350
