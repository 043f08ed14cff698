"""Whether the units that an explanation calls salient are those that the model listens to.

Of each recording the label is explained that the model takes it for. Then its units are taken out of the sequence, the
most salient first, and in random orders; and put in from nothing. What is reported: how much the label's probability
falls without the 20 % most salient units, in multiples of the fall without 20 % random ones, with a 95 % interval by
bootstrap over recordings; and the areas under the curves. All methods are measured on validation recordings, where
the default was chosen; the default on test recordings, of speakers that neither training nor the choice has heard.

An adapter is trained where WORK has none. Finished cells are kept there, so that a stopped run goes on.

    python benchmarks/explanation_faithfulness.py --data-root DATA --work WORK
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from speechprompt_hf.core.embedded import DEFAULT_BASE, UNIT_MBART_BASE
from speechprompt_hf.core.files import read_json, write_json, write_text
from speechprompt_hf.data import load_rows, units_of
from speechprompt_hf.explanation import DEFAULT_METHOD, METHODS, UnitScorer, fall_ratio, removal_curves, unit_saliency
from speechprompt_hf.explanation.faithfulness import FRACTIONS
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.training import TrainingSettings, run_experiment

BAR = 2.0
CURVES = ("deletion", "random_deletion", "insertion", "random_insertion")


class Case(NamedTuple):
    """A task and a base.

    Attributes:
        data: folder of the data set.
        label_column: what is told apart.
        base: the frozen backbone.
        epochs: of the training.
    """

    data: str
    label_column: str
    base: str
    epochs: int


CASES = {
    "fsdd": Case("fsdd", "text", DEFAULT_BASE, 6),
    "lt_speech_commands": Case("lt_speech_commands", "word", DEFAULT_BASE, 25),
    "fsdd-unit-mbart": Case("fsdd", "text", UNIT_MBART_BASE, 6),
}


def open_adapter(case: Case, data_root: Path, folder: Path) -> Any:
    if not (folder / "config.json").exists():
        run_experiment(
            data_root / case.data,
            folder,
            base=case.base,
            label_column=case.label_column,
            speaker_column="speaker",
            settings=TrainingSettings(num_epochs=case.epochs),
        )
    return SpeechPromptForAudioClassification.from_pretrained(folder)


def chosen_rows(model: Any, case: Case, data_root: Path, work: Path, part: str, most: int) -> list[list[int]]:
    """Units of recordings; of more than `most` the same random ones each time."""
    rows = units_of(
        load_rows(data_root / case.data, split=part, label_column=case.label_column), model.processor, work / "units"
    )
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    return [rows["units"][int(index)] for index in order]


def measure(model: Any, units: list[int], method: str, num_random: int) -> dict[str, Any]:
    """Curves of one recording."""
    scorer = UnitScorer(model, units)
    label = int(scorer.logits(torch.ones(1, scorer.num_units))[0].argmax())
    start = time.perf_counter()
    saliency = unit_saliency(scorer, label, method)
    seconds = time.perf_counter() - start
    curves = removal_curves(scorer, label, saliency, num_random=num_random)
    return {"units": len(units), "seconds": seconds, **{name: getattr(curves, name).tolist() for name in CURVES}}


def cell(model: Any, rows: list[list[int]], method: str, num_random: int, place: Path) -> list[dict[str, Any]]:
    if not place.exists():
        results = []
        start = time.perf_counter()
        for number, units in enumerate(rows, 1):
            results.append(measure(model, units, method, num_random))
            if number % 20 == 0 or number == len(rows):
                rate = number / (time.perf_counter() - start)
                print(f"{place.stem}: {number}/{len(rows)} recordings, {rate:.2f}/s", file=sys.stderr, flush=True)
        write_json(place, results)
    return read_json(place)


def line(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What a row of the tables says of some recordings."""
    at = FRACTIONS.index(0.2)
    curves = {name: np.array([result[name] for result in results]) for name in CURVES}
    whole = curves["deletion"][:, 0]
    ratio = fall_ratio(whole - curves["deletion"][:, at], whole - curves["random_deletion"][:, at])
    return {
        **ratio.__dict__,
        "units": float(np.mean([result["units"] for result in results])),
        "probability": float(whole.mean()),
        "seconds": float(np.median([result["seconds"] for result in results])),
        "areas": {name: float(np.trapezoid(values, FRACTIONS, axis=1).mean()) for name, values in curves.items()},
        "curves": {name: values.mean(0).tolist() for name, values in curves.items()},
    }


def table(lines: list[dict[str, Any]]) -> list[str]:
    text = [
        "| data | method | recordings | units each | probability | fall, salient | fall, random | ratio (95 %) "
        "| area of deletion (random) | area of insertion (random) | seconds each |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in lines:
        areas = one["areas"]
        text.append(
            f"| {one['case']} | {one['method']} | {one['rows']} | {one['units']:.1f} | {one['probability']:.3f} "
            f"| {one['salient']:.3f} | {one['random']:.3f} | **{one['ratio']:.2f}** ({one['low']:.2f} to "
            f"{one['high']:.2f}) | {areas['deletion']:.3f} ({areas['random_deletion']:.3f}) "
            f"| {areas['insertion']:.3f} ({areas['random_insertion']:.3f}) | {one['seconds']:.2f} |"
        )
    return text


def markdown(validation: list[dict[str, Any]], test: list[dict[str, Any]]) -> str:
    text = [
        "# Whether explanations are faithful",
        "",
        "Made by `python benchmarks/explanation_faithfulness.py`, which says what is measured. Bar: the fall of the "
        f"label's probability without the 20 % most salient units is at least {BAR:g} times that without random ones, "
        "in the mean over a test set.",
        "",
        f"## Test: the default, `{DEFAULT_METHOD}`",
        "",
        *table(test),
        "",
        "Mean probability of the label by the share of units that is gone (deletion), or there (insertion):",
        "",
        "| data | curve | " + " | ".join(f"{fraction:.0%}" for fraction in FRACTIONS) + " |",
        "|---" * (len(FRACTIONS) + 2) + "|",
    ]
    for one in test:
        for name, values in one["curves"].items():
            numbers = " | ".join(f"{value:.3f}" for value in values)
            text.append(f"| {one['case']} | {name.replace('_', ' ')} | {numbers} |")
    text += ["", "## Validation: where the default was chosen", "", *table(validation), ""]
    return "\n".join(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder that holds fsdd/ and lt_speech_commands/"
    )
    parser.add_argument("--work", type=Path, required=True, help="adapters, units and finished cells are kept here")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--case", choices=sorted(CASES), action="append", help="all by default")
    parser.add_argument("--validation-rows", type=int, default=40, help="at most so many, drawn at random")
    parser.add_argument("--test-rows", type=int, default=200, help="at most so many, drawn at random")
    parser.add_argument("--random-orders", type=int, default=10, help="of test recordings; of validation ones 3")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    parts = {
        "test": ((DEFAULT_METHOD,), arguments.test_rows, arguments.random_orders),
        "validation": (METHODS, arguments.validation_rows, 3),
    }
    lines: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
    for name in arguments.case or CASES:
        case = CASES[name]
        model = open_adapter(case, arguments.data_root, arguments.work / name)
        for part, (methods, most, num_random) in parts.items():
            rows = chosen_rows(model, case, arguments.data_root, arguments.work, part, most)
            for method in methods:
                place = arguments.work / "cells" / f"{name}-{part}-{method}-{len(rows)}-{num_random}.json"
                found = line(cell(model, rows, method, num_random, place))
                lines[part].append({"case": name, "method": method, **found})
    write_json(arguments.output / "explanation_faithfulness.json", lines)
    write_text(arguments.output / "explanation_faithfulness.md", markdown(lines["validation"], lines["test"]))
    print(markdown(lines["validation"], lines["test"]))


if __name__ == "__main__":
    main()
