"""`speechprompt quantize`: k-means on an encoder's features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from ..console import note, print_json, print_line, progress_bar, working
from ..corpora import device_or_best, read_corpus, waveforms_of
from ..options import CorpusOption, DeviceOption, JsonOption, OutputOption, SeedOption

_BATCH = 16


def run(
    dataset: CorpusOption,
    encoder: Annotated[
        str,
        typer.Option(help="A speech encoder of transformers (HuBERT, wav2vec 2.0, WavLM, Whisper): folder or Hub id."),
    ],
    output: OutputOption,
    layer: Annotated[int, typer.Option(help="Whose hidden states are clustered; 0 is the first layer's input.")],
    clusters: Annotated[int, typer.Option(min=2, help="How many units there will be.")] = 100,
    prosody: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="So many further units that say how something is said: codes of pitch, level and duration, which "
            "stand between the others where they change.",
            show_default=False,
        ),
    ] = None,
    normalization: Annotated[
        Literal["none", "zero_mean_unit_variance", "unit_rms"] | None,
        typer.Option(
            help="How the encoder's input was scaled in its training: none for HuBERT base and Whisper, "
            "zero_mean_unit_variance for large models and for what distill makes. Read from the encoder's "
            "preprocessor_config.json by default.",
            show_default=False,
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of an encoder on the Hub.", show_default=False)
    ] = None,
    max_hours: Annotated[float, typer.Option(min=0.001, help="Speech to use, drawn at random.")] = 5.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output's quantizer.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit k-means on the features of an encoder: the second step to a backbone of your own.

    Writes a folder that AutoProcessor opens: the encoder, the centroids (quantizer.safetensors) and the settings. Give
    it to units and pretrain as --base.
    """
    if (output / "quantizer.safetensors").exists() and not overwrite:
        raise typer.BadParameter(
            f"{output} holds a quantizer, and language models and adapters may stand on its units: choose another "
            "folder, or replace it with --overwrite",
            param_hint="--output",
        )
    with working():
        normalization = normalization or _recorded_normalization(encoder, revision)
        corpus = read_corpus(dataset)
        rows = corpus.get("train") or next(iter(corpus.values()))
        waves = waveforms_of(rows, max_seconds=3600 * max_hours, seed=seed)
        source = _Source(encoder, revision, layer, normalization)
        result = _fit(waves, source, output, clusters, prosody, seed, device)
    if as_json:
        print_json(result)
    else:
        units = f"{clusters} units" + (f" and {prosody} of prosody" if prosody else "")
        print_line(f"{output}\t{units}\tfrom {result['frames']} frames\tinertia {result['inertia']:.4f}")


class _Source(NamedTuple):
    """Which features are clustered."""

    encoder: str
    revision: str | None
    layer: int
    normalization: Literal["none", "zero_mean_unit_variance", "unit_rms"]

    @property
    def public_id(self) -> str:
        """A Hub id with its revision; of a folder its name alone, as the path means nothing elsewhere."""
        if Path(self.encoder).is_dir():
            return Path(self.encoder).resolve().name
        return f"{self.encoder}@{self.revision}" if self.revision else self.encoder


def _recorded_normalization(
    encoder: str, revision: str | None
) -> Literal["none", "zero_mean_unit_variance", "unit_rms"]:
    """What the encoder's own preprocessor does to samples."""
    from transformers.utils import cached_file

    from speechprompt_hf.core.errors import ConfigurationError
    from speechprompt_hf.core.files import read_json
    from speechprompt_hf.core.locations import reading

    with reading(encoder, ConfigurationError, "the encoder"):
        path = cached_file(
            encoder, "preprocessor_config.json", revision=revision, _raise_exceptions_for_missing_entries=False
        )
    settings = read_json(path) if path else {}
    if "Whisper" in str(settings.get("feature_extractor_type")):
        return "none"
    if not isinstance(settings.get("do_normalize"), bool):
        raise ConfigurationError(
            f"nothing says how the input of {encoder} was scaled: no do_normalize in its preprocessor_config.json",
            hint="give --normalization: zero_mean_unit_variance for the encoders of distill and for large ones, "
            "none for HuBERT base",
        )
    return "zero_mean_unit_variance" if settings["do_normalize"] else "none"


def _fit(
    waves: list[Any],
    source: _Source,
    output: Path,
    clusters: int,
    prosody: int | None,
    seed: int,
    device: str | None,
) -> dict[str, Any]:
    import numpy as np

    from speechprompt_hf import SpeechUnitProcessor, UnitEncoder
    from speechprompt_hf.pretraining.prosody_quantization import fit_prosody_quantizer
    from speechprompt_hf.pretraining.quantization import fit_quantizer
    from speechprompt_hf.processors.feature_extraction_speech_units import normalize_waveform
    from speechprompt_hf.processors.loading import dense_model_from

    layer, normalization = source.layer, source.normalization
    dense_model = dense_model_from(source.encoder, layer, revision=source.revision)
    options: dict[str, Any] = {"layer": layer, "normalization": normalization, "encoder_id": source.public_id}
    # One centroid at the origin: features need none.
    reader = UnitEncoder.from_model(dense_model, np.zeros((1, dense_model.feature_size), np.float32), **options)
    reader.to(device_or_best(device))
    note(f"{sum(map(len, waves)) / 3600 / 16_000:.2f} hours of speech")
    frames = []
    with progress_bar("features", len(waves)) as advance:
        for start in range(0, len(waves), _BATCH):
            batch = [normalize_waveform(wave, normalization) for wave in waves[start : start + _BATCH]]
            frames += [features.cpu().numpy() for features in reader.features(batch)]
            advance(len(batch))
    features = np.concatenate(frames)
    fit = fit_quantizer(features, clusters, seed=seed)
    unit_encoder = UnitEncoder.from_model(dense_model, fit.centroids, **options)
    processor = SpeechUnitProcessor.from_unit_encoder(unit_encoder)
    if prosody is not None:
        note("prosody")
        quantizer = fit_prosody_quantizer(waves, processor, num_units=prosody, seed=seed, show_progress=True)
        processor = SpeechUnitProcessor.from_unit_encoder(unit_encoder, None, quantizer, interleaved=True)
    processor.save_pretrained(output, save_encoder=True)
    return {
        "output": str(output),
        "frames": len(features),
        "inertia": fit.inertia,
        "empty_clusters": int((fit.shares == 0).sum()),
        "seed": seed,
        "prosody": prosody,
        "fingerprint": processor.fingerprint,
    }
