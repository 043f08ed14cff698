"""`speechprompt quickstart`: the whole way once, on recordings made on the spot."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import note, print_json, print_line, working
from ..options import DEFAULT_BASE, BaseOption, JsonOption, SeedOption
from ..reports import print_report
from ..synthetic_keywords import KEYWORDS, make_recordings

_MIN_VOICES, _MAX_VOICES = 20, 79

#: Run by a new Python process, so that it shows what a user's own program sees.
_OPEN_AND_CLASSIFY = """
import json, sys
import speechprompt_hf
from transformers import AutoModel, AutoProcessor

folder, file = sys.argv[1:]
model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
probabilities = model(**processor([file], return_tensors="pt")).logits.softmax(-1)[0]
best = int(probabilities.argmax())
answer = {"label": model.config.id2label[best], "probability": float(probabilities[best])}
print(json.dumps({"class": type(model).__name__, **answer}))
"""


def run(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for recordings and adapter.")] = Path(
        "quickstart-output"
    ),
    voices: Annotated[
        int, typer.Option(min=_MIN_VOICES, max=_MAX_VOICES, help="How many synthetic voices speak.")
    ] = 40,
    epochs: Annotated[int, typer.Option(min=1, help="The most passes over the training recordings.")] = 25,
    base: BaseOption = DEFAULT_BASE,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a first adapter, in about three minutes, without any data.

    Makes recordings of ten keywords in many synthetic voices (eSpeak NG, a GPL-3 program that runs in a process of its
    own), trains a prompt adapter on the small backbone inside this package, measures it on voices it has not heard,
    opens the saved adapter in a new process, and shows the line that does the same on your own recordings.
    """
    started = time.perf_counter()
    recordings, adapter = output / "recordings", output / "adapter"
    with working():
        note("The speech below is synthetic: eSpeak NG (GPL-3) speaks it in a process of its own.")
        count = make_recordings(recordings, num_voices=voices, seed=seed)
        from speechprompt_hf.training import TrainingSettings, run_experiment

        settings = TrainingSettings(num_epochs=epochs)
        report = run_experiment(recordings, adapter, base=base, settings=settings, seed=seed).report
    opened = _open_in_new_process(adapter, recordings)
    own = f"speechprompt train --dataset YOUR_FOLDER --output {shlex.quote(str(output / 'my-adapter'))}"
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"report": report, "recordings": count, "opened": opened, "next": own, "seconds": seconds})
        return
    print_line(f"{count} synthetic recordings of {len(KEYWORDS)} keywords in {voices} voices (eSpeak NG)")
    print_report(report)
    print_line(f"saved in {adapter}")
    print_line(
        f"opened with AutoModel in a new process ({opened['class']}): {opened['file']} is "
        f'"{opened["label"]}" with probability {opened["probability"]:.2f}'
    )
    print_line(f"the whole quick start took {seconds:.0f} s")
    print_line("now your own recordings, one sub-folder per label (a Hub data set's id works too):")
    print_line(f"  {own}")


def _open_in_new_process(adapter: Path, recordings: Path) -> dict[str, Any]:
    with open(recordings / "metadata.csv", encoding="utf-8", newline="") as stream:
        file = recordings / next(row["file_name"] for row in csv.DictReader(stream) if row["split"] == "test")
    arguments = [sys.executable, "-W", "ignore", "-c", _OPEN_AND_CLASSIFY, str(adapter), str(file)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the saved adapter could not be opened: {done.stderr.strip().splitlines()[-1:]}")
    return {"file": str(file), **json.loads(done.stdout.strip().splitlines()[-1])}
