"""`speechprompt serve` on loopback: throughput against offline batches and one request at a time, and a long run.

Eight adapters with random prompts and verbalizers on the embedded default; synthetic recordings of 0.5 to 1.5 s, each
for one task. Three ways take turns, in every round in another order, so that other work on the machine meets all:

- offline: `SpeechPromptServer.predict` on the same files and tasks, in a process of its own;
- one at a time: one client that waits for each answer;
- 32 clients: each sends its next request when the last one is answered.

The clients share this process and the machine with the server. Then 10,000 requests, one in ten of them bad, while the
server's resident memory is read every two seconds.

    OMP_NUM_THREADS=1 python benchmarks/serving.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from serving_requests import Request, bad_requests, good_request, make_recordings, save_adapters, send_all

from speechprompt_hf.core.files import write_json, write_text

BARS = {"to_offline": 0.8, "to_one_at_a_time": 1.5, "memory": 1.05}
MAX_SECONDS = 60.0


def offline_worker(root: Path) -> None:
    """Answer files by `SpeechPromptServer.predict` once for every line of standard input."""
    from speechprompt_hf.serving import SpeechPromptServer

    adapters = {folder.name: folder for folder in sorted((root / "adapters").iterdir())}
    server = SpeechPromptServer.from_adapters(adapters)
    for line in sys.stdin:
        questions = [(root / "recordings" / f"{file}.flac", task) for file, task in json.loads(line)]
        start, start_processor = time.perf_counter(), time.process_time()
        answers = server.predict(questions)
        seconds = (time.perf_counter() - start, time.process_time() - start_processor)
        labels = [(one.label, one.probability) for one in answers]
        print(json.dumps({"seconds": seconds, "labels": labels}), flush=True)


class Offline:
    """The other end of `offline_worker`."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, __file__, "--offline-worker", str(root)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def predict(self, questions: list[tuple[int, str]]) -> dict[str, Any]:
        """Seconds of the clock and of the processor, and labels with probabilities."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(questions) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def start_server(folders: dict[str, Path]) -> tuple[subprocess.Popen[str], int]:
    """The command line's server on a free port."""
    command = [sys.executable, "-m", "speechprompt_cli", "serve", *map(str, folders.values()), "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        line = server.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start")
        text += line
    return server, int(json.loads(text)["url"].rpartition(":")[2])


def processes_of(process: int) -> list[int]:
    """A process and those that it started: HTTP in the one, the model in the other."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *map(int, children)]


def resident_mb(process: int) -> float:
    """Of a process and its children together, `RssAnon` of /proc: files that other programs map are not counted."""
    total = 0
    for one in processes_of(process):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1])
    return total / 1000


def processor_seconds(process: int) -> float:
    """That a process and its children have used so far."""
    total = 0
    for one in processes_of(process):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def timed(port: int, requests: list[Request], clients: int, server: int) -> dict[str, Any]:
    """Files a second, and how many answers were not those of offline batches."""
    wrong: list[Any] = []

    def look(request: Request, status: int, document: Any) -> None:
        if status != 200 or document[0]["label"] != request.expected:
            wrong.append((status, document, request.expected))

    start, start_processor = time.perf_counter(), processor_seconds(server)
    asyncio.run(send_all(port, requests, clients, look))
    seconds = time.perf_counter() - start
    used = processor_seconds(server) - start_processor
    return {"rate": len(requests) / seconds, "processor_ms": 1000 * used / len(requests), "wrong": wrong}


def compare(root: Path, port: int, server: int, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Request]]:
    """Rates of the three ways, and all good requests."""
    offline = Offline(root)
    questions = [(number, f"task{number % 8}") for number in range(arguments.files)]
    labels = offline.predict(questions)["labels"]
    files = [(root / "recordings" / f"{number}.flac").read_bytes() for number in range(arguments.files)]
    requests = [
        good_request(file, task, label, as_json=number % 16 >= 8)
        for number, (file, (_, task), (label, _)) in enumerate(zip(files, questions, labels, strict=True))
    ]
    timed(port, requests[:64], 32, server)
    rounds: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        ways = {
            "offline": lambda: offline.predict(questions)["seconds"],
            "one at a time": lambda: timed(port, requests[: arguments.single], 1, server),
            "32 clients": lambda: timed(port, requests, 32, server),
        }
        names = list(ways)[number % 3 :] + list(ways)[: number % 3]
        measured: dict[str, Any] = {name: ways[name]() for name in names}
        seconds, used = measured["offline"]
        measured["offline"] = {"rate": len(files) / seconds, "processor_ms": 1000 * used / len(files), "wrong": []}
        rounds.append(measured)
        print({name: round(value["rate"], 1) for name, value in measured.items()}, flush=True)
    offline.close()
    rates = {name: [one[name]["rate"] for one in rounds] for name in rounds[0]}
    ratio = np.array(rates["32 clients"])
    return {
        "rates": {name: [round(value, 2) for value in values] for name, values in rates.items()},
        "median_rates": {name: round(float(np.median(values)), 2) for name, values in rates.items()},
        "processor_ms": {
            name: round(float(np.median([one[name]["processor_ms"] for one in rounds])), 1) for name in rounds[0]
        },
        "to_offline": round(float(np.median(ratio / np.array(rates["offline"]))), 3),
        "to_one_at_a_time": round(float(np.median(ratio / np.array(rates["one at a time"]))), 3),
        "answers": sum(len(files) + arguments.single for _ in rounds),
        "other_labels": sum(len(one[name]["wrong"]) for one in rounds for name in one),
        "distinct_labels": len({(request.path, request.expected) for request in requests}),
    }, requests


def endure(port: int, server: int, good: list[Request], arguments: argparse.Namespace) -> dict[str, Any]:
    """The long run: good and bad requests in random order, and the server's memory."""
    generator = np.random.default_rng(1)
    bad = bad_requests(good_files(good)[0], "task0", MAX_SECONDS)
    num_bad = arguments.requests // 10
    order = generator.permutation(arguments.requests)
    requests = [bad[number % len(bad)] for number in range(num_bad)]
    requests += [good[number % len(good)] for number in range(arguments.requests - num_bad)]
    statuses: Counter[tuple[str, int]] = Counter()
    failures: list[Any] = []
    memory: list[tuple[float, float]] = []
    seen = [0]

    def look(request: Request, status: int, document: Any) -> None:
        seen[0] += 1
        if seen[0] % 500 == 0:
            print(f"{seen[0]} requests, {memory[-1][1]:.0f} MB", flush=True)
        if request.expected is None:
            statuses[(request.kind, status)] += 1
            sentence = document.get("error", "") if isinstance(document, dict) else ""
            if not 400 <= status < 500 or len(sentence.split()) < 3:
                failures.append((request.kind, status, document))
        else:
            statuses[("good", status)] += 1
            if status != 200 or document[0]["label"] != request.expected:
                failures.append((request.kind, status, document, request.expected))

    async def watch() -> None:
        start = time.perf_counter()
        while True:
            memory.append((time.perf_counter() - start, resident_mb(server)))
            await asyncio.sleep(2)

    async def run() -> None:
        watcher = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        await send_all(port, [requests[number] for number in order], 32, look)
        watcher.cancel()

    start = time.perf_counter()
    asyncio.run(run())
    seconds = time.perf_counter() - start
    values = np.array([value for _, value in memory])
    quarters = [float(quarter.mean()) for quarter in np.array_split(values, 4)]
    return {
        "requests": arguments.requests,
        "bad": num_bad,
        "kinds_of_bad": {
            kind: {str(status): count for (other, status), count in sorted(statuses.items()) if other == kind}
            for kind in dict.fromkeys(request.kind for request in bad)
        },
        "good_answered": statuses[("good", 200)],
        "good_not_answered": arguments.requests - num_bad - statuses[("good", 200)],
        "failures": failures[:20],
        "num_failures": len(failures),
        "seconds": round(seconds, 1),
        "rate": round(arguments.requests / seconds, 1),
        "memory_mb_by_quarter": [round(value, 1) for value in quarters],
        "memory_growth": round(quarters[3] / quarters[1], 4),
        "memory_highest_mb": round(float(values.max()), 1),
    }


def good_files(good: list[Request]) -> list[bytes]:
    return [request.body for request in good if request.kind == "file"]


def report(results: dict[str, Any], arguments: argparse.Namespace) -> str:
    import torch

    throughput, run = results["throughput"], results["run"]
    lines = [
        "# Serving",
        "",
        f"Made by `OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python benchmarks/serving.py`: 8 adapters "
        "with random prompts and verbalizers on the embedded default (pooled, separator, input prompt, probe), "
        f"{arguments.files} synthetic flac files of 0.5 to 1.5 s at 16 kHz, each for one task; half of the requests "
        f"are files, half JSON with base64. {os.cpu_count()} cores of {platform.machine()} for the server and its "
        f"clients, {torch.get_num_threads()} thread of torch, torch {torch.__version__}, {arguments.rounds} "
        f"interleaved rounds. Load of the machine (1 minute, this run included): {results['load'][0]} before, "
        f"{results['load'][1]} after; other programs used it at the same time.",
        "",
        "| way | files a second, median | by round | processor ms a file |",
        "|---|---|---|---|",
    ]
    for name, rate in throughput["median_rates"].items():
        rates = ", ".join(f"{value:.1f}" for value in throughput["rates"][name])
        lines.append(f"| {name} | {rate:.1f} | {rates} | {throughput['processor_ms'][name]} |")
    lines += [
        "",
        "| figure | measured | bar |",
        "|---|---|---|",
        f"| 32 clients to offline batches, median of the rounds' ratios | {throughput['to_offline']} | at least "
        f"{BARS['to_offline']} |",
        f"| 32 clients to one request at a time | {throughput['to_one_at_a_time']} | at least "
        f"{BARS['to_one_at_a_time']} |",
        f"| labels other than `predict`'s, of {throughput['answers']} answers ({throughput['distinct_labels']} "
        f"different labels) | {throughput['other_labels']} | 0 |",
        f"| bad requests without a 4xx and a sentence, or good ones without their label, of {run['requests']} "
        f"({run['bad']} bad) | {run['num_failures']} | 0 |",
        f"| good requests that were lost, of {run['requests'] - run['bad']} | {run['good_not_answered']} | 0 |",
        f"| resident memory, last quarter to second quarter | {run['memory_growth']} | at most {BARS['memory']} |",
        "",
        f"The long run took {run['seconds']} s ({run['rate']} requests a second). Resident memory of the server, "
        f"means of its quarters: {', '.join(map(str, run['memory_mb_by_quarter']))} MB; highest "
        f"{run['memory_highest_mb']} MB.",
        "",
        "| kind of bad request | statuses |",
        "|---|---|",
    ]
    for kind, statuses in run["kinds_of_bad"].items():
        lines.append(f"| {kind} | {', '.join(f'{count} × {status}' for status, count in statuses.items())} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=256)
    parser.add_argument("--single", type=int, default=48, help="files that are sent one at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "serving")
    parser.add_argument("--offline-worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.offline_worker is not None:
        offline_worker(arguments.offline_worker)
        return
    load = [round(os.getloadavg()[0], 1)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "recordings").mkdir()
        for number, file in enumerate(make_recordings(arguments.files)):
            (root / "recordings" / f"{number}.flac").write_bytes(file)
        server, port = start_server(save_adapters(root / "adapters"))
        try:
            throughput, requests = compare(root, port, server.pid, arguments)
            run = endure(port, server.pid, requests, arguments)
        finally:
            server.terminate()
            server.wait()
    results = {"throughput": throughput, "run": run, "load": [*load, round(os.getloadavg()[0], 1)]}
    write_json(arguments.output.with_suffix(".json"), results)
    write_text(arguments.output.with_suffix(".md"), report(results, arguments))
    print(report(results, arguments))


if __name__ == "__main__":
    main()
