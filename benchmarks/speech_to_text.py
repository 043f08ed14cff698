"""Real recordings to text: recognition, phones, slots, translation; both architectures, prompted and trained whole.

| set | task | speakers of the test |
|---|---|---|
| `speechocean762` | English of Mandarin speakers, children among them, in characters | unseen |
| `speechocean762-phones` | the same in phones | unseen |
| `coffee_orders` | slots of orders | not known |
| `mboshi_french` | Mboshi to French, in subwords | unseen |

The GSLM and the Unit mBART of the package are steered by prompts of the same size; beside them both are trained
whole, from the pretrained and from random weights. The epoch is chosen on the validation part, the test part is
answered once. Each cell leaves an adapter and its report in the work folder; cells that have one are not run again, a
stopped one goes on.

    python benchmarks/speech_to_text.py --data-root DATA --work WORK --only prompt
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from speechprompt_hf import DEFAULT_BASE, UNIT_MBART_BASE, SpeechUnitProcessor
from speechprompt_hf.core.digest import sha256_of_json
from speechprompt_hf.core.files import read_json, write_json, write_text
from speechprompt_hf.modeling.base_loading import load_base
from speechprompt_hf.tasks import (
    SequenceTask,
    phone_recognition,
    slot_filling,
    speech_recognition,
    speech_translation,
)
from speechprompt_hf.training import SequenceTrainingSettings, run_sequence_experiment
from speechprompt_hf.training.sequence_settings import SequenceMethod

BASES = {"GSLM": DEFAULT_BASE, "Unit mBART": UNIT_MBART_BASE}
SETS: dict[str, tuple[str, SequenceTask]] = {
    "speechocean762": ("speechocean762", speech_recognition),
    "speechocean762-phones": ("speechocean762", phone_recognition),
    "coffee_orders": ("coffee_orders", slot_filling),
    "mboshi_french": ("mboshi_french", speech_translation),
}


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        architecture (`str`): of `BASES`.
        is_pretrained (`bool`): whether the language model is the package's, or of the same shape with random weights.
        trains (`SequenceMethod`): a prompt, or the language model whole.
    """

    architecture: str
    is_pretrained: bool
    trains: SequenceMethod

    @property
    def name(self) -> str:
        """How the table calls it."""
        start = "pretrained" if self.is_pretrained else "untrained"
        if self.trains == "prompt":
            return f"{self.architecture}, {start}, prompt"
        return f"{self.architecture}, " + ("fine-tuned" if self.is_pretrained else "from scratch")


def methods() -> Iterator[Method]:
    """What is compared, the cheapest first."""
    for trains, is_pretrained in (("prompt", True), ("prompt", False), ("finetune", True), ("finetune", False)):
        for architecture in BASES:
            yield Method(architecture, is_pretrained, trains)  # type: ignore[arg-type]


def base_of(method: Method, work: Path) -> str:
    """The embedded base, or a folder with the same shape and random weights, made once."""
    source = BASES[method.architecture]
    if method.is_pretrained:
        return source
    folder = work / "untrained" / method.architecture
    if not (folder / "model.safetensors").exists():
        lm = load_base(source)
        torch.manual_seed(1)
        type(lm)(lm.config).save_pretrained(folder)
        SpeechUnitProcessor.from_pretrained(source).save_pretrained(folder, base_source=DEFAULT_BASE)
    return str(folder)


def cell_report(
    name: str, method: Method, settings: SequenceTrainingSettings, arguments: argparse.Namespace
) -> dict[str, Any] | None:
    """The report of a cell; it is run where there is none and it was asked for."""
    data, task = SETS[name]
    folder = arguments.work / f"{name}-{sha256_of_json([asdict(settings), asdict(method)])[:12]}"
    is_asked_for = arguments.only in method.name and name in (arguments.set or SETS)
    if not (folder / "report.json").exists():
        if not is_asked_for:
            return None
        run_sequence_experiment(
            arguments.data_root / data,
            folder,
            task=task,
            base=base_of(method, arguments.work),
            settings=settings,
            method=method.trains,
            cache_dir=arguments.work / "units",
            resume=True,
            progress=False,
        )
    report: dict[str, Any] = read_json(folder / "report.json")
    return report


def table(name: str, reports: dict[str, dict[str, Any]]) -> str:
    """Markdown of a set: a line a method."""
    task = SETS[name][1]
    first = next(iter(reports.values()))
    rows = ", ".join(f"{count} {part}" for part, count in first["num_rows"].items())
    lines = [
        f"### {name} ({rows})",
        "",
        f"| what answers | trained | {' | '.join(f'{metric} (95 %)' for metric in task.metrics)} | best of validation "
        "| epochs | minutes |",
        "|---|---|" + "---|" * (len(task.metrics) + 3),
    ]
    baseline = first["baselines"]["most_frequent"]["scores"]
    shown = " | ".join(_number(metric, baseline[metric]) for metric in task.metrics)
    lines.append(f"| always the most frequent text | 0 | {shown} | | | |")
    for method, report in reports.items():
        scores = " | ".join(
            f"{_number(metric, score['value'])} ({_number(metric, score['low'])}–{_number(metric, score['high'])})"
            for metric, score in report["scores"].items()
        )
        training = report["training"]
        lines.append(
            f"| {method} | {report['trained_parameters']:,} | {scores} "
            f"| {_number(task.metric, training['validation_metric'])} | {training['num_epochs']:.0f} "
            f"| {report['seconds'] / 60:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _number(metric: str, value: float) -> str:
    return f"{value:.1f}" if metric in ("bleu", "chrf") else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--set", action="append", choices=sorted(SETS), help="may be repeated; all by default")
    parser.add_argument("--only", default="", help="a part of the names of the methods to run")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=180, help="prompt vectors a layer")
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="of prompts")
    arguments = parser.parse_args()
    if not any(arguments.only in method.name for method in methods()):
        parser.error(f"--only {arguments.only}: {'; '.join(method.name for method in methods())}")
    settings = SequenceTrainingSettings(
        num_epochs=arguments.epochs,
        num_virtual_tokens=arguments.tokens,
        learning_rate=arguments.learning_rate,
        eval_batch_size=64,
    )
    tables: dict[str, str] = {}
    results: dict[str, Any] = {}
    for name in SETS:
        reports = {}
        for method in methods():
            report = cell_report(name, method, settings, arguments)
            if report is not None:
                reports[method.name] = report
                tables[name] = table(name, reports)
        if not reports:
            continue
        print(tables[name], flush=True)
        results[name] = {
            method: {key: report[key] for key in ("scores", "baselines", "trained_parameters", "num_rows", "examples")}
            for method, report in reports.items()
        }
        write_text(arguments.output / "speech_to_text.md", "\n".join(tables.values()))
        write_json(arguments.output / "speech_to_text.json", results)


if __name__ == "__main__":
    main()
