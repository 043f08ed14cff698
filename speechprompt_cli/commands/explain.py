"""`speechprompt explain`: the units that speak for the labels of an adapter, or for the label of one recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..console import note, print_json, print_line, working
from ..corpora import device_or_best
from ..options import DeviceOption, JsonOption, SeedOption, given_options

if TYPE_CHECKING:
    from speechprompt_hf.explanation import LabelExplanation, Phone, RecordingExplanation

_OF_RECORDINGS = ("method", "alignment", "tier", "ctc_model", "transcript", "seed")
_EVIDENCE: dict[Literal["heard", "weights", "mean_weights"], str] = {
    "heard": "heard alone instead of nothing, in log-odds of the label",
    "weights": "weight of the verbalizer for the unit that the language model expects next",
    "mean_weights": "weight of the verbalizer for the unit's mean probability over the utterance",
}


def run(
    context: typer.Context,
    adapter: Annotated[str, typer.Argument(help="The folder that train wrote, or a Hub id.", show_default=False)],
    file: Annotated[
        str | None,
        typer.Argument(help="A recording: wav, flac, ogg, opus or mp3.", show_default=False),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="The label to explain; of a recording the most probable one by default, else all.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Literal["leave-one-out", "shapley", "occlusion", "integrated-gradients"],
        typer.Option(help="How the saliency of a recording's units is measured."),
    ] = "leave-one-out",
    alignment: Annotated[
        Path | None,
        typer.Option(help="A TextGrid of the recording's phones.", dir_okay=False, show_default=False),
    ] = None,
    tier: Annotated[
        str | None,
        typer.Option(
            help="The TextGrid's tier, by default phones or the one with most intervals.", show_default=False
        ),
    ] = None,
    ctc_model: Annotated[
        str | None,
        typer.Option(
            "--ctc-model",
            help="Align --transcript by this CTC model of transformers instead: a folder or a Hub id.",
            show_default=False,
        ),
    ] = None,
    transcript: Annotated[
        str | None,
        typer.Option(help="What is said, in the letters or phones of --ctc-model.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Units a label, where no recording is given.")] = 5,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also draw it into this PNG.", dir_okay=False, show_default=False),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which units speak for which label.

    Without a recording: for every label the units that speak most for it, by what the model answers when it hears
    one unit alone, and by the weights of the verbalizer where they belong to units.

    With a recording: the probability of every label, and a line a unit: when it was heard, and how much it speaks for
    the label (above 0) or against it. --output draws that under the waveform. This needs the extra explain.

    For adapters that were trained on labels, not on texts.
    """
    _check_options(given_options(context), file, ctc_model, transcript, alignment, tier)
    with working():
        from speechprompt_hf.explanation import (
            draw_explanation,
            draw_labels,
            explain_labels,
            explain_recording,
            read_textgrid,
            recording_waveform,
            save_figure,
        )
        from speechprompt_hf.modeling.auto import SpeechPromptModel

        # Before anything takes time.
        aligned = None if alignment is None else read_textgrid(alignment, tier)
        model = SpeechPromptModel.from_pretrained(adapter).to(device_or_best(device))
        result: dict[str, Any]
        if file is None:
            of_labels = explain_labels(model)
            result = _labels_as_json(of_labels, label, top)
            figure = None if output is None else draw_labels(of_labels)
        else:
            of_recording = explain_recording(model, file, label=label, method=method, seed=seed)
            waveform = recording_waveform(model, file)
            rate = model.processor.feature_extractor.sampling_rate
            phones = _phones(waveform, rate, ctc_model, transcript) if aligned is None else aligned
            result = _recording_as_json(of_recording, file, phones)
            figure = None if output is None else draw_explanation(of_recording, waveform, rate, phones)
        if figure is not None and output is not None:
            save_figure(figure, output)
            note(f"drawn in {output}")
    if as_json:
        print_json(result)
    elif file is None:
        _print_labels(result)
    else:
        _print_recording(result)


def _check_options(
    given: list[str],
    file: str | None,
    ctc_model: str | None,
    transcript: str | None,
    alignment: Path | None,
    tier: str | None,
) -> None:
    lonely = [name for name in _OF_RECORDINGS if name in given] if file is None else []
    if lonely:
        raise typer.BadParameter(f"--{lonely[0].replace('_', '-')} needs a recording")
    if file is not None and "top" in given:
        raise typer.BadParameter("--top is for labels, without a recording")
    if (ctc_model is None) != (transcript is None):
        raise typer.BadParameter("--ctc-model and --transcript belong together")
    if alignment is not None and ctc_model is not None:
        raise typer.BadParameter("give either --alignment or --ctc-model")
    if tier is not None and alignment is None:
        raise typer.BadParameter("--tier belongs to --alignment")


def _phones(waveform: Any, rate: int, ctc_model: str | None, transcript: str | None) -> list[Phone] | None:
    from speechprompt_hf.explanation import ctc_phones

    if ctc_model is not None and transcript is not None:
        return ctc_phones(waveform, rate, ctc_model, transcript)
    return None


def _labels_as_json(explanation: LabelExplanation, label: str | None, top: int) -> dict[str, Any]:
    """The strongest units of every label, or of one, by each kind of evidence that the adapter has."""
    kinds = [kind for kind in _EVIDENCE if getattr(explanation, kind) is not None]
    labels = explanation.labels if label is None else (label,)
    return {
        "note": explanation.note,
        "labels": {
            name: {
                kind: [{"unit": one.unit, "weight": one.weight} for one in explanation.strongest(name, top, kind)]
                for kind in kinds
            }
            for name in labels
        },
    }


def _recording_as_json(explanation: RecordingExplanation, file: str, phones: list[Phone] | None) -> dict[str, Any]:
    from speechprompt_hf.explanation import phones_of_units

    columns = {
        "start": explanation.starts.tolist(),
        "end": explanation.ends.tolist(),
        "unit": explanation.units.tolist(),
        "saliency": explanation.saliency.tolist(),
    }
    if phones is not None:
        columns["phone"] = phones_of_units(explanation.starts, explanation.ends, phones)
    return {
        "file": file,
        "label": explanation.label,
        "method": explanation.method,
        "probabilities": explanation.probabilities,
        "units": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }


def _print_labels(result: dict[str, Any]) -> None:
    note(f"unit (weight); {result['note']}")
    for kind, meaning in _EVIDENCE.items():
        rows = {label: kinds[kind] for label, kinds in result["labels"].items() if kind in kinds}
        if not rows:
            continue
        print_line(f"# {meaning}")
        for label, units in rows.items():
            print_line(f"{label}\t" + " ".join(f"{one['unit']} ({one['weight']:+.2f})" for one in units))


def _print_recording(result: dict[str, Any]) -> None:
    print_line(f"# {result['file']}: {result['label']}, saliency by {result['method']} in log-odds")
    for label, probability in result["probabilities"].items():
        print_line(f"{label}\t{probability:.4f}")
    print_line("# " + "\t".join(result["units"][0]))
    for row in result["units"]:
        phone = f"\t{row['phone'] or '-'}" if "phone" in row else ""
        print_line(f"{row['start']:.3f}\t{row['end']:.3f}\t{row['unit']}\t{row['saliency']:+.3f}{phone}")
