"""`speechprompt generate`: recordings to speech: continued, corrected, translated or said again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import print_error, print_json, print_line, working
from ..corpora import device_or_best
from ..options import DEFAULT_BASE, BaseOption, BeamsOption, DeviceOption, JsonOption, OutputOption, SeedOption

if TYPE_CHECKING:
    from speechprompt_hf.generation import GeneratedSpeech, GenerationSettings


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="ADAPTER RECORDING...",
            help="The folder that train wrote, or a Hub id; then recordings: wav, flac, ogg, opus or mp3. With "
            "--resynthesise recordings alone.",
            show_default=False,
        ),
    ],
    output: OutputOption,
    vocoder: Annotated[
        str | None,
        typer.Option(
            "--vocoder",
            help="What makes units sound: a folder or a Hub id. By default the one that the adapter names, if it is "
            "on this machine: nothing is downloaded that was not asked for.",
            show_default=False,
        ),
    ] = None,
    resynthesise: Annotated[
        bool, typer.Option("--resynthesise", help="Say the recordings again by their units alone, without an adapter.")
    ] = False,
    base: BaseOption = DEFAULT_BASE,
    prompt_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Of adapters that continue: how much is heard of a recording, from its start.",
            show_default="as in the adapter's training, else 3",
        ),
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Of adapters that continue: how many continuations.")] = 1,
    sample: Annotated[
        bool | None,
        typer.Option(
            "--sample/--no-sample",
            help="Draw units, or take the most probable ones. By default only continuations are drawn.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0.01, help="Of drawing: below 1 probable units come more often.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Of drawing: among so many units; 0: among all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0, help="Of drawing: among units of this share.")] = 1.0,
    beams: BeamsOption = 1,
    max_units: Annotated[
        int | None, typer.Option(min=1, help="The most units that are said.", show_default="the adapter's")
    ] = None,
    tempo: Annotated[float, typer.Option(min=0.1, max=10.0, help="2 is twice as fast, 0.5 half as fast.")] = 1.0,
    predict_durations: Annotated[
        bool,
        typer.Option(
            "--predict-durations",
            help="Let the vocoder say how long units last, also those of the recording itself.",
        ),
    ] = False,
    speaker: Annotated[
        int | None, typer.Option(min=0, help="The voice, of a vocoder with several.", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the output holds of other options.")
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer recordings with speech, as the adapter was trained to: continue, correct or translate them.

    Writes a wav file for each recording into the output folder, and a line with its units to generations.jsonl there.
    Prints a line a file: recording and result, separated by a tab. A recording that cannot be used is one line on
    standard error and does not stop the others; the exit code is then 2.

    A run that was stopped leaves whole files, and goes on when it is started again. Results of other options are never
    mixed: choose another output, or --overwrite.
    """
    if not resynthesise and len(files) < 2:
        raise typer.BadParameter("give an adapter and recordings, or --resynthesise and recordings")
    with working():
        from speechprompt_hf.generation import GenerationSettings

        settings = GenerationSettings(
            prompt_seconds=prompt_seconds,
            sample=sample,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            num_samples=num_samples,
            num_beams=beams,
            max_units=max_units,
            tempo=tempo,
            predict_durations=predict_durations,
            speaker=speaker,
            seed=seed,
        )
        where = device_or_best(device)
        common = {"overwrite": overwrite, "progress": True}
        made = (
            _resynthesised(base, vocoder, files, output, settings, where, common)
            if resynthesise
            else _answered(files[0], vocoder, files[1:], output, settings, where, common)
        )
        results = [_told(speech, output, quiet=as_json) for speech in made]
    if as_json:
        print_json({"generations": results})
    if any("error" in result for result in results):
        raise typer.Exit(2)


def _answered(
    adapter: str,
    vocoder: str | None,
    files: list[str],
    output: Path,
    settings: GenerationSettings,
    device: Any,
    common: dict[str, bool],
) -> Iterator[GeneratedSpeech]:
    from speechprompt_hf.generation import generate_files, open_vocoder
    from speechprompt_hf.modeling.modeling_for_speech_generation import SpeechPromptForSpeechGeneration

    model = SpeechPromptForSpeechGeneration.from_pretrained(adapter).to(device)
    named = (model.config.vocoder_name_or_path, model.config.vocoder_revision)
    opened = open_vocoder(vocoder, *named).to(device)
    return generate_files(model.attach_vocoder(opened), files, output, settings, **common)


def _resynthesised(
    base: str,
    vocoder: str | None,
    files: list[str],
    output: Path,
    settings: GenerationSettings,
    device: Any,
    common: dict[str, bool],
) -> Iterator[GeneratedSpeech]:
    from speechprompt_hf import SpeechUnitProcessor
    from speechprompt_hf.generation import open_vocoder, resynthesise_files

    opened = open_vocoder(vocoder, of="the base").to(device)
    processor = SpeechUnitProcessor.from_pretrained(base).to(device)
    return resynthesise_files(processor, opened, files, output, settings, **common)


def _told(speech: GeneratedSpeech, output: Path, *, quiet: bool) -> dict[str, Any]:
    """A result for scripts; printed for readers."""
    if speech.error is not None:
        print_error(speech.error)
        return {"file": speech.file, "error": speech.error}
    if not quiet:
        for line in speech.lines:
            print_line(f"{speech.file}\t{output / line['output']}")
    return {"file": speech.file, "was_there": speech.was_there, "speech": list(speech.lines)}
