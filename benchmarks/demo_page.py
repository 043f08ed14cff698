"""How long a visitor of the demo page waits: from the choice of a file to its label, and to its picture.

`python benchmarks/demo_page.py ADAPTER RECORDING... [--screenshot PNG] [--json FILE]` opens the page in headless
Chromium, which must be installed (with the extras demo and browser), uploads the recordings one after the other, and
prints seconds. The first is that of the page's first visitor. `docs/pictures/demo.png` is such a screenshot, of the
quick start's adapter.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LABEL, CAPTION = "#label [data-testid=label-output-value]", "#picture figcaption"
PATIENCE_MS = 120_000
VISITOR_CHOOSES_MS = 2_000


def cpu_seconds(process: int) -> float:
    """What a process has computed so far, on Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    address: str, server: int, recordings: list[Path], screenshot: Path | None
) -> list[dict[str, float | str]]:
    """Seconds to label and picture of each recording, in a new tab each."""
    program = next(filter(None, map(shutil.which, BROWSERS)))
    rows: list[dict[str, float | str]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for path in recordings:
            page = browser.new_page(viewport={"width": 860, "height": 900})
            page.goto(address)
            field = page.locator("#recording input[type=file]")
            field.wait_for(state="attached", timeout=PATIENCE_MS)
            page.wait_for_timeout(VISITOR_CHOOSES_MS)
            began, used = time.perf_counter(), cpu_seconds(server)
            field.set_input_files(str(path))
            page.locator(LABEL).wait_for(timeout=PATIENCE_MS)
            label, worked = time.perf_counter() - began, cpu_seconds(server) - used
            page.locator(CAPTION).wait_for(timeout=PATIENCE_MS)
            rows.append(
                {
                    "recording": path.name,
                    "label": page.locator(LABEL).inner_text(),
                    "seconds_to_label": round(label, 3),
                    "server_cpu_seconds_to_label": round(worked, 2),
                    "seconds_to_picture": round(time.perf_counter() - began, 3),
                }
            )
            print(rows[-1], file=sys.stderr)
            if screenshot is not None and path == recordings[-1]:
                page.mouse.move(0, 0)
                page.wait_for_timeout(500)
                page.screenshot(path=screenshot, full_page=True)
            page.close()
        browser.close()
    return rows


def main() -> None:
    """Start the page as `speechprompt demo` does, in a process of its own, and visit it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter")
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--name", default="keywords")
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    command = [sys.executable, "-m", "speechprompt_cli", "demo", "--name", f"{given.name}={given.adapter}"]
    process = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip() if process.stdout else ""
        if not address:
            raise RuntimeError("speechprompt demo has shown no page")
        rows = measure(address, process.pid, given.recordings, given.screenshot)
    finally:
        process.terminate()
        process.wait()
    seconds = [float(row["seconds_to_label"]) for row in rows]
    summary = {
        "cores": os.cpu_count(),
        "load_of_the_machine": round(os.getloadavg()[0], 1),
        "first_seconds_to_label": seconds[0],
        "median_seconds_to_label": median(seconds),
        "median_server_cpu_seconds_to_label": median(float(row["server_cpu_seconds_to_label"]) for row in rows),
        "median_seconds_to_picture": median(float(row["seconds_to_picture"]) for row in rows),
        "rows": rows,
    }
    text = json.dumps(summary, indent=2)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
