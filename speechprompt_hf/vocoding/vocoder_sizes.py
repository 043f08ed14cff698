"""Sizes of a vocoder that fit the frames of its units."""

from __future__ import annotations

from typing import Any

from ..core.errors import ConfigurationError

__all__ = ["hifigan_rates", "sizes_for_hop", "spectra_per_frame"]

_FINE_HOP = 160  # of spectra, 10 ms at 16 kHz: a window of four of them resolves harmonics


def hifigan_rates(hop: int) -> list[int]:
    """Strides of transposed convolutions whose product is a hop, the largest first.

    Args:
        hop (`int`): samples of a frame.

    Returns:
        `list[int]`: for 320 fairseq's 5, 4, 4, 2, 2; twos are joined in pairs, one or two of them stay.

    Raises:
        ConfigurationError: the hop has a large prime factor.
    """
    rates, rest = [], hop
    for factor in (3, 5, 7):
        while rest % factor == 0:
            rates.append(factor)
            rest //= factor
    twos = 0
    while rest > 1 and rest % 2 == 0:
        twos, rest = twos + 1, rest // 2
    if rest != 1 or hop < 2:
        raise ConfigurationError(
            f"a hop of {hop} samples is no product of small strides", hint="take the architecture vocos"
        )
    singles = min(twos, 2 - twos % 2)
    return sorted([*rates, *([4] * ((twos - singles) // 2)), *([2] * singles)], reverse=True)


def spectra_per_frame(hop: int) -> int:
    """The least number of spectra a frame that are at most 10 ms (at 16 kHz) apart, an even number of samples.

    Raises:
        ConfigurationError: the hop is odd.
    """
    for rate in range(1, hop + 1):
        if hop % rate == 0 and hop // rate <= _FINE_HOP and hop // rate % 2 == 0:
            return rate
    raise ConfigurationError(f"a hop of {hop} samples is odd", hint="take the architecture hifigan")


def sizes_for_hop(architecture: str, hop: int) -> dict[str, Any]:
    """Arguments of a vocoder's configuration that a hop decides.

    Args:
        architecture (`str`): `"vocos"` or `"hifigan"`.
        hop (`int`): samples of a frame.
    """
    if architecture == "vocos":
        rate = spectra_per_frame(hop)
        return {"hop_length": hop, "upsample_rate": rate, "n_fft": 4 * (hop // rate)}
    rates = hifigan_rates(hop)
    return {"upsample_rates": rates, "upsample_kernel_sizes": [2 * rate + rate % 2 for rate in rates]}
