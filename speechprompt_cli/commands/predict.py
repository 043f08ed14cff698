"""`speechprompt predict`: labels of recordings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..console import print_error, print_json, print_line, working
from ..options import DeviceOption, JsonOption


def run(
    adapter: Annotated[str, typer.Argument(help="The folder that train wrote, or a Hub id.", show_default=False)],
    files: Annotated[list[str], typer.Argument(help="Recordings: wav, flac, ogg, opus or mp3.", show_default=False)],
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels of each recording, best first.")] = 1,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which label each recording has.

    Prints a line a file: file, label, probability, separated by tabs. A file that cannot be read is one line on
    standard error and does not stop the others; the exit code is then 2.
    """
    with working():
        results = _predict(adapter, files, top, device, quiet=as_json)
    if as_json:
        print_json({"predictions": results})
    if any("error" in result for result in results):
        raise typer.Exit(2)


def _predict(adapter: str, files: list[str], top: int, device: str | None, *, quiet: bool) -> list[dict[str, Any]]:
    import torch

    import speechprompt_hf
    from speechprompt_hf.core.errors import SpeechPromptError

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = speechprompt_hf.SpeechPromptForAudioClassification.from_pretrained(adapter).to(where)
    extractor = speechprompt_hf.SpeechUnitProcessor.from_pretrained(adapter).feature_extractor
    results = []
    for file in files:
        try:
            features = extractor(file, return_tensors="pt").to(where)
            with torch.inference_mode():
                probabilities = model(**features).logits[0].float().softmax(-1)
        except SpeechPromptError as error:
            print_error(Exception.__str__(error), hint=error.hint)
            results.append({"file": file, "error": str(error)})
            continue
        best = probabilities.topk(min(top, len(probabilities)))
        labels = [
            {"label": model.config.id2label[index], "probability": probability}
            for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        results.append({"file": file, **labels[0], **({"labels": labels} if top > 1 else {})})
        if not quiet:
            print_line("\t".join([file, *(f"{each['label']}\t{each['probability']:.4f}" for each in labels)]))
    return results
