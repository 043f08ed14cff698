"""Reached as ``speechprompt_hf.processors``; this folder at the top level is its source."""

if not __name__.startswith("speechprompt_hf."):
    # A second import path would make a second copy of every class, which transformers' registries tell apart.
    raise ImportError(f"import speechprompt_hf.{__name__}, not {__name__}")

from .feature_extraction_speech_units import SpeechUnitFeatureExtractor, normalize_waveform
from .output_tokenization import build_output_tokenizer
from .processing_speech_units import SpeechUnitProcessor
from .prosody_quantizer import ProsodyQuantizer
from .quantizer import Quantizer
from .tokenization_units import UnitTokenizer
from .unit_encoder import UnitEncoder, UnitEncoderDescription

__all__ = [
    "ProsodyQuantizer",
    "Quantizer",
    "SpeechUnitFeatureExtractor",
    "SpeechUnitProcessor",
    "UnitEncoder",
    "UnitEncoderDescription",
    "UnitTokenizer",
    "build_output_tokenizer",
    "normalize_waveform",
]
