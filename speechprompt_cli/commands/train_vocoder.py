"""`speechprompt train-vocoder`: units to speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..console import is_main_process, note, print_error, print_json, print_line, working
from ..corpora import read_corpus
from ..options import DEFAULT_BASE, CorpusOption, DeviceOption, JsonOption, OutputOption, SeedOption


def run(
    dataset: CorpusOption,
    output: OutputOption,
    base: Annotated[
        str, typer.Option(help="What makes the units: a backbone's folder, Hub id or name.")
    ] = DEFAULT_BASE,
    architecture: Annotated[
        Literal["vocos", "hifigan"],
        typer.Option(help="vocos is small and trains on a CPU; hifigan is the class of published unit vocoders."),
    ] = "vocos",
    steps: Annotated[int, typer.Option(min=1, help="Updates in all; a finished run goes on with more.")] = 20_000,
    adversarial_start: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The update from which discriminators take part; the mel loss alone is much faster. By default 8000 "
            "for vocos, 0 for hifigan.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Segments in one update.")] = 8,
    segment_seconds: Annotated[float, typer.Option(min=0.1, max=30.0, help="Of speech in a segment.")] = 1.0,
    discriminator_seconds: Annotated[
        float, typer.Option(min=0.1, max=30.0, help="Of speech in each segment that discriminators hear.")
    ] = 0.5,
    discriminator: Annotated[
        list[str] | None,
        typer.Option(
            "--discriminator",
            help="What judges: periods (the cheapest), scales or spectra; several times for several. By default "
            "periods and spectra for vocos, periods and scales for hifigan.",
            show_default=False,
        ),
    ] = None,
    discriminator_width: Annotated[
        float, typer.Option(min=0.01, max=4.0, help="Channels of the discriminators as a share of HiFi-GAN's.")
    ] = 0.125,
    width: Annotated[
        int | None, typer.Option(min=8, help="Channels: 256 for vocos, 512 for hifigan.", show_default=False)
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Of vocos: blocks over frames, 6 by default.", show_default=False)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-7, help="At the start: 0.002 for vocos, 0.0002 for hifigan.", show_default=False),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1.0,
            help="Factor of the learning rate after every 1000 updates: 0.8 for vocos, 0.98 for hifigan.",
            show_default=False,
        ),
    ] = None,
    speaker_column: Annotated[
        str | None,
        typer.Option("--speaker-column", help="Names the voice of a row: a vocoder of several.", show_default=False),
    ] = None,
    snapshot_every: Annotated[
        int, typer.Option(min=0, help="Keep a vocoder every so many updates, for a learning curve; 0: none.")
    ] = 0,
    license: Annotated[
        str | None, typer.Option("--license", help="Of the weights, for the model card.", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a vocoder: sound from the units of a backbone, with durations for merged units.

    Recordings of one voice, clean, half an hour or more; labels are not needed. Their part validation is only looked
    at. The output opens with AutoModel.from_pretrained. A run that was stopped goes on, and a finished one with more
    --steps. Several processes of torchrun or accelerate launch train one vocoder.
    """
    options: dict[str, Any] = {
        "architecture": architecture,
        "batch_size": batch_size,
        "discriminator_width": discriminator_width,
        **_judges(architecture, discriminator),
        **_schedule(architecture, adversarial_start, learning_rate, decay),
        "snapshot_every": snapshot_every,
        "seed": seed,
        "model": _sizes(architecture, width, layers),
    }
    if architecture == "vocos":
        # Several windows hold a phase that no discriminator watches yet to what sounds like speech.
        options |= {"mel_windows": (512, 1024, 2048), "warm_up_steps": 200, "clip_norm": 100.0}
        options |= {"discriminator_learning_rate": min(options["learning_rate"], 2e-4)}
    seconds = {"segment_frames": segment_seconds, "discriminator_frames": discriminator_seconds}
    with working():
        result = _train(dataset, output, base, steps, options, seconds, speaker_column, license, device)
    if not is_main_process():
        return
    if as_json:
        print_json(result)
    else:
        validation = result["validation"].get("validation_mel")
        loss = "" if validation is None else f"\tvalidation mel distance {validation}"
        print_line(f"{output}\t{result['parameters']} parameters{loss}")


def _sizes(architecture: str, width: int | None, layers: int | None) -> dict[str, int]:
    if architecture == "hifigan":
        if layers is not None:
            raise typer.BadParameter("--layers belongs to --architecture vocos")
        return {} if width is None else {"upsample_initial_channel": width}
    sizes = {} if width is None else {"hidden_size": width, "intermediate_size": 3 * width}
    return sizes if layers is None else {**sizes, "num_layers": layers}


def _schedule(
    architecture: str, adversarial_start: int | None, learning_rate: float | None, decay: float | None
) -> dict[str, Any]:
    start, rate, factor = (8000, 2e-3, 0.8) if architecture == "vocos" else (0, 2e-4, 0.98)
    return {
        "adversarial_start": start if adversarial_start is None else adversarial_start,
        "learning_rate": rate if learning_rate is None else learning_rate,
        "decay_per_1000": factor if decay is None else decay,
    }


def _judges(architecture: str, given: Sequence[str] | None) -> dict[str, Any]:
    unknown = sorted({*(given or ())} - {"periods", "scales", "spectra"})
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is not one of periods, scales, spectra", param_hint="--discriminator"
        )
    kinds = given or (("periods", "spectra") if architecture == "vocos" else ("periods", "scales"))
    return {
        **({} if "periods" in kinds else {"periods": ()}),
        "num_scales": 3 if "scales" in kinds else 0,
        "spectrum_windows": (256, 512, 1024) if "spectra" in kinds else (),
    }


def _train(
    dataset: str,
    output: Path,
    base: str,
    steps: int,
    options: dict[str, Any],
    seconds: dict[str, float],
    speaker_column: str | None,
    license: str | None,
    device: str | None,
) -> dict[str, Any]:
    from speechprompt_hf import SpeechUnitProcessor
    from speechprompt_hf.pretraining.checkpoints import reports_of_last_step
    from speechprompt_hf.pretraining.processes import Processes
    from speechprompt_hf.vocoding.aligned_speech import AlignedSpeech, align_speech
    from speechprompt_hf.vocoding.vocoder_card import write_vocoder_card
    from speechprompt_hf.vocoding.vocoder_settings import VocoderTrainingConfig
    from speechprompt_hf.vocoding.vocoder_training import train_vocoder

    processes = Processes.join(device)
    processor = SpeechUnitProcessor.from_pretrained(base)
    corpus = read_corpus(dataset)
    parts = {"train": corpus.get("train") or next(iter(corpus.values()))}
    if "validation" in corpus:
        parts["validation"] = corpus["validation"]
    if processes.is_main:
        processor.to(processes.device)
        voices = None
        for name, rows in parts.items():
            speech = align_speech(
                rows,
                processor,
                output / "speech" / name,
                speaker_column=speaker_column,
                speakers=voices,
                on_skip=lambda item, reason: print_error(f"left out: {item}: {reason}"),
            )
            voices = speech.speakers if speaker_column is not None else None
            note(f"{name}: {len(speech)} recordings, {speech.seconds / 60:.1f} minutes")
    processes.wait(patiently=True)
    speech = AlignedSpeech(output / "speech" / "train")
    held_out = AlignedSpeech(output / "speech" / "validation") if "validation" in parts else None
    frame = speech.hop / speech.sampling_rate
    frames: dict[str, Any] = {name: max(1, round(value / frame)) for name, value in seconds.items()}
    config = VocoderTrainingConfig(**options, **frames)
    reports: dict[str, float] = {}
    vocoder = train_vocoder(
        speech,
        output,
        steps,
        config,
        fingerprint=processor.fingerprint,
        num_units=processor.unit_encoder.num_units,
        validation=held_out,
        processes=processes,
        on_report=reports.update,
    )
    # Whatever was trained was reported.
    is_trained = bool(reports)
    if processes.is_main and not is_trained:
        steps, reports = reports_of_last_step(output)
        note(f"nothing to train: {output} has {steps} updates")
    validation = {name: value for name, value in reports.items() if name.startswith("validation_")}
    # One that was edited by hand stays, as long as it is true.
    if processes.is_main and (is_trained or not (output / "README.md").exists()):
        write_vocoder_card(
            output, vocoder, config, speech, base=base, num_steps=steps, report=validation, license=license
        )
    return {
        "output": str(output),
        "parameters": vocoder.num_parameters(),
        "updates": steps,
        "seconds_of_speech": round(speech.seconds, 1),
        "seed": options["seed"],
        "validation": validation,
    }
