"""What the `config.json` beside a unit vocoder of fairseq says, as our configuration."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError
from ..modeling.configuration_unit_hifigan import UnitHifiGanConfig
from .errors import ConversionError

__all__ = ["VocoderSettings", "read_vocoder_settings"]

_MAX_BYTES = 2**20
_MAX_SIZE = 1_000_000
_MAX_ROWS = 16
# No tensor contradicts a dilation, and a convolution pads by as much.
_MAX_DILATION = 1_000
_DEFAULT_SPEAKERS = 200
# fairseq reads three dilations for each kernel, and its duration predictor keeps lengths with this kernel alone.
_NUM_DILATIONS = 3
_DURATION_KERNEL = 3
_UNKNOWN_INPUTS = {
    "f0": "pitch as an input",
    "embedder_params": "speaker embeddings of another model as an input",
    "multistyle": "styles as an input",
    "lambda_commit": "a quantizer of pitch",
    "lambda_commit_code": "a quantizer of its own",
    "f0_quantizer_path": "a quantizer of pitch",
    "f0_quant_num_bin": "pitch as an input",
}
# What fairseq's and speech-resynthesis' files hold beside the sizes: data, losses, optimizer; pitch that is not used.
_ONLY_FOR_TRAINING = frozenset(
    (
        *("input_training_file", "input_validation_file", "segment_size", "num_workers", "num_gpus", "dist_config"),
        *("batch_size", "learning_rate", "adam_b1", "adam_b2", "lr_decay", "seed", "dur_prediction_weight"),
        *("num_mels", "num_freq", "n_fft", "hop_size", "win_size", "fmin", "fmax", "fmax_for_loss"),
        *("f0_stats", "f0_normalize", "f0_feats", "f0_median", "f0_interp"),
    )
)


@dataclass(frozen=True)
class VocoderSettings:
    """What a vocoder's `config.json` says.

    Args:
        config (`UnitHifiGanConfig`): checked for sense, not yet against tensors.
        left_out (`tuple[str, ...]`): names in the file that only training needs.
        not_known (`tuple[str, ...]`): names in the file of which nobody here knows what they do.
    """

    config: UnitHifiGanConfig
    left_out: tuple[str, ...]
    not_known: tuple[str, ...]


def read_vocoder_settings(path: str | Path) -> VocoderSettings:
    """Settings of a unit vocoder.

    Args:
        path (`str | Path`): the `config.json` that lies beside `g_00500000`.

    Returns:
        `VocoderSettings`.

    Raises:
        ConversionError: the file is absent or no JSON, or its values are impossible or those of another architecture.
    """
    values = _Values(_read_json(Path(path)), str(path))
    if values.get("num_embeddings") is None:
        raise ConversionError(
            f"{path} has no num_embeddings: no vocoder of units", hint="give the config.json beside the checkpoint"
        )
    for key, meaning in _UNKNOWN_INPUTS.items():
        if values.get(key):
            raise ConversionError(f"{path} has {key}: {meaning}", hint="UnitHifiGan has no such thing")
    if values.get("resblock", "1") not in ("1", 1):
        raise ConversionError(f"{path} has resblock {_short(values.get('resblock'))}", hint="only '1' is known")
    try:
        config = UnitHifiGanConfig(
            vocab_size=values.size("num_embeddings"),
            unit_embed_dim=values.size("embedding_dim"),
            num_speakers=_num_speakers(values),
            sampling_rate=values.size("sampling_rate"),
            upsample_rates=values.sizes("upsample_rates"),
            upsample_kernel_sizes=values.sizes("upsample_kernel_sizes"),
            upsample_initial_channel=values.size("upsample_initial_channel"),
            resblock_kernel_sizes=values.sizes("resblock_kernel_sizes"),
            resblock_dilation_sizes=_dilations(values),
            **_duration_predictor(values),
        )
    except ConfigurationError as error:
        raise ConversionError(f"{path}: {Exception.__str__(error)}", hint=error.hint) from error
    _check_products(values, config)
    unused = values.content.keys() - values.used
    return VocoderSettings(config, _sorted(unused & _ONLY_FOR_TRAINING), _sorted(unused - _ONLY_FOR_TRAINING))


class _Values:
    """The content of a file, which remembers what was asked of it."""

    def __init__(self, content: dict[str, Any], name: str) -> None:
        self.content, self.name = content, name
        self.used: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.used.add(key)
        return self.content.get(key, default)

    def size(self, key: str, default: Any = None) -> int:
        return self.checked(key, self.get(key, default))

    def checked(self, key: str, value: Any, limit: int = _MAX_SIZE) -> int:
        if type(value) is not int or not 1 <= value <= limit:
            raise ConversionError(f"{self.name} has {key} {_short(value)}", hint=f"a whole number from 1 to {limit}")
        return value

    def sizes(self, key: str) -> list[int]:
        return [self.checked(key, value) for value in self.rows(key, self.get(key))]

    def rows(self, key: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or not 1 <= len(value) <= _MAX_ROWS:
            raise ConversionError(f"{self.name} has {key} {_short(value)}", hint=f"a list of 1 to {_MAX_ROWS} values")
        return value


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConversionError(f"there is no settings file {path}", hint="give the config.json beside the checkpoint")
    if path.stat().st_size > _MAX_BYTES:
        raise ConversionError(f"{path} has {path.stat().st_size} bytes, more than {_MAX_BYTES}")
    try:
        content = json.loads(path.read_bytes())
    # Numbers of thousands of digits are ValueErrors, thousands of brackets RecursionErrors.
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is no JSON: {error}"[:300]) from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds a {type(content).__name__}, no settings")
    return content


def _num_speakers(values: _Values) -> int:
    if not values.get("multispkr"):
        return 0
    return values.size("num_speakers", _DEFAULT_SPEAKERS)


def _dilations(values: _Values) -> list[list[int]]:
    key = "resblock_dilation_sizes"
    rows = [values.rows(key, row) for row in values.rows(key, values.get(key))]
    for row in rows:
        if len(row) != _NUM_DILATIONS:
            raise ConversionError(f"{values.name} has {len(row)} dilations in {key}", hint="fairseq's have three")
    return [[values.checked(key, value, _MAX_DILATION) for value in row] for row in rows]


def _duration_predictor(values: _Values) -> dict[str, Any]:
    content = values.get("dur_predictor_params")
    if not content:
        return {"duration_predictor_hidden_size": 0}
    if not isinstance(content, dict):
        raise ConversionError(
            f"{values.name} has dur_predictor_params {_short(content)}", hint="an object is expected"
        )
    inner = _Values(content, f"{values.name}, dur_predictor_params,")
    width = inner.size("encoder_embed_dim")
    if width != values.size("embedding_dim"):
        raise ConversionError(f"{inner.name} has encoder_embed_dim {width} and embedding_dim differs from it")
    if inner.size("var_pred_kernel_size") != _DURATION_KERNEL:
        raise ConversionError(
            f"{inner.name} has var_pred_kernel_size {inner.size('var_pred_kernel_size')}",
            hint=f"with another kernel than {_DURATION_KERNEL} fairseq's predictor changes the number of units",
        )
    dropout = inner.get("var_pred_dropout", 0.5)
    if type(dropout) not in (int, float) or not 0 <= dropout <= 1:
        raise ConversionError(f"{inner.name} has var_pred_dropout {_short(dropout)}", hint="a rate from 0 to 1")
    return {
        "duration_predictor_hidden_size": inner.size("var_pred_hidden_dim"),
        "duration_predictor_kernel_size": _DURATION_KERNEL,
        "duration_predictor_dropout": float(dropout),
    }


def _check_products(values: _Values, config: UnitHifiGanConfig) -> None:
    for key, expected, meaning in (
        ("model_in_dim", config.generator_channels, "unit and speaker embeddings have"),
        ("code_hop_size", config.hop_length, "upsample_rates make"),
    ):
        if (found := values.get(key)) is not None and found != expected:
            raise ConversionError(f"{values.name} has {key} {_short(found)}, but {meaning} {expected}")


def _sorted(keys: Set[str]) -> tuple[str, ...]:
    return tuple(sorted(key[:100] for key in keys))


def _short(value: Any) -> str:
    """A value for a message; containers from a file are only named, as they may be of any depth."""
    return repr(value)[:60] if isinstance(value, str | int | float | None) else type(value).__name__
