"""Configuration of the small unit vocoder that ends in an inverse Fourier transform."""

from __future__ import annotations

from ..core.errors import ConfigurationError
from .configuration_unit_vocoder import MAX_LAYERS, UnitVocoderConfig

__all__ = ["UnitVocosConfig"]


class UnitVocosConfig(UnitVocoderConfig):
    """Configuration of `UnitVocos`.

    The defaults have 3.4 million parameters, less than 7 MB in half precision, and fit units of 20 ms at 16 kHz.

    Args:
        vocab_size (`int`, defaults to 100): units K; ids are unit numbers themselves, without special tokens.
        unit_embed_dim (`int`, defaults to 128): width of unit and speaker embeddings.
        num_speakers (`int`, defaults to 0): rows of the speaker embedding; 0: a single voice, without one.
        sampling_rate (`int`, defaults to 16000): of the audio, in hertz.
        hop_length (`int`, defaults to 320): samples of a unit's frame.
        upsample_rate (`int`, defaults to 2): spectra per frame; `hop_length` is divided by it.
        n_fft (`int`, defaults to 640): samples of a spectrum's window; at least three times the samples from one
            spectrum to the next, a multiple of them.
        hidden_size (`int`, defaults to 256): channels of the blocks.
        intermediate_size (`int`, defaults to 768): channels inside a block.
        num_layers (`int`, defaults to 6): blocks over frames, at most 100.
        num_fine_layers (`int`, defaults to 1): blocks over spectra, behind them, at most 100.
        kernel_size (`int`, defaults to 7): odd kernel of the blocks and of the first convolution.
        duration_predictor_hidden_size (`int`, defaults to 128): width of the duration predictor; 0: there is none.
        duration_predictor_kernel_size (`int`, defaults to 3): odd kernel of its two convolutions.
        duration_predictor_dropout (`float`, defaults to 0.5): dropout behind each of them, in training.
        initializer_range (`float`, defaults to 0.02): deviation of the generator's random weights.
        fingerprint (`dict`, *optional*): identity of the units the vocoder was trained on.

    Raises:
        ConfigurationError: a value is of a wrong type or out of range, or sizes do not fit each other.

    Source:
        Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders" (2023), with units in
        the place of mel spectra.
    """

    model_type = "unit_vocos"

    hop_length: int = 320
    upsample_rate: int = 2
    n_fft: int = 640
    hidden_size: int = 256
    intermediate_size: int = 768
    num_layers: int = 6
    num_fine_layers: int = 1
    kernel_size: int = 7
    initializer_range: float = 0.02

    @property
    def samples_per_frame(self) -> int:
        """Samples per frame."""
        return self.hop_length

    @property
    def fine_hop_length(self) -> int:
        """Samples from one spectrum to the next."""
        return self.hop_length // self.upsample_rate

    @property
    def receptive_field_frames(self) -> tuple[int, int]:
        """Frames before and behind a frame that its samples depend on."""
        reach = self.kernel_size // 2
        # A window begins or ends within a stretch of samples if its spectrum is at most half a window away.
        fine = self.num_fine_layers * reach + (self.n_fft // self.fine_hop_length) // 2
        frames = (self.num_layers + 1) * reach + -(-fine // self.upsample_rate)
        return frames, frames

    def validate_sizes(self) -> None:
        """Check that the sizes fit each other.

        Raises:
            ConfigurationError: they do not.
        """
        super().validate_sizes()
        for name in ("hop_length", "upsample_rate", "n_fft", "hidden_size", "intermediate_size"):
            self._check_at_least(name, 1)
        for name in ("num_layers", "num_fine_layers"):
            self._check_at_least(name, 0, MAX_LAYERS)
        self._check_odd("kernel_size", self.kernel_size)
        self._check_number("initializer_range", 100.0)
        if self.hop_length % self.upsample_rate:
            raise ConfigurationError(
                f"hop_length {self.hop_length} is no multiple of upsample_rate {self.upsample_rate}",
                hint="a frame is a whole number of spectra",
            )
        fine = self.fine_hop_length
        if self.n_fft % (2 * fine) or self.n_fft < 3 * fine or (self.n_fft - fine) % 2:
            raise ConfigurationError(
                f"n_fft is {self.n_fft} with {fine} samples from one spectrum to the next",
                hint=f"give an even multiple of them, at least {4 * fine}; hop_length / upsample_rate is even",
            )
