"""What `import speechprompt_hf` adds to the imports that its users have anyway.

`python benchmarks/import_time.py [ROUNDS]` prints CPU and wall seconds of both, in turns, and their ratio. The least
of each is compared: noise only adds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

BASELINE = "import peft; from transformers import AutoModel, PreTrainedModel, Trainer"
WITH_PACKAGE = f"{BASELINE}; import speechprompt_hf"


def seconds_of(code: str) -> tuple[float, float]:
    """CPU and wall seconds of a new interpreter that runs `code`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {code}")
    return usage.ru_utime + usage.ru_stime, wall


def measure(rounds: int) -> dict[str, float]:
    """Smallest CPU and wall seconds of both imports over `rounds` turns, and the ratios."""
    times: dict[str, list[tuple[float, float]]] = {BASELINE: [], WITH_PACKAGE: []}
    for code in times:
        seconds_of(code)  # files into memory
    for _ in range(rounds):
        for code, taken in times.items():
            taken.append(seconds_of(code))
    cpu = {code: min(pair[0] for pair in taken) for code, taken in times.items()}
    wall = {code: min(pair[1] for pair in taken) for code, taken in times.items()}
    return {
        "baseline_cpu_seconds": cpu[BASELINE],
        "with_package_cpu_seconds": cpu[WITH_PACKAGE],
        "cpu_ratio": cpu[WITH_PACKAGE] / cpu[BASELINE],
        "baseline_wall_seconds": wall[BASELINE],
        "with_package_wall_seconds": wall[WITH_PACKAGE],
        "wall_ratio": wall[WITH_PACKAGE] / wall[BASELINE],
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7), indent=2))
