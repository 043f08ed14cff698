"""What a label hangs on: the units that speak for it, in the adapter and in single recordings."""

from .drawing import draw_explanation, save_figure
from .recording import RecordingExplanation, explain_recording, recording_waveform
from .saliency import DEFAULT_METHOD, METHODS, unit_saliency
from .scoring import UnitScorer

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "RecordingExplanation",
    "UnitScorer",
    "draw_explanation",
    "explain_recording",
    "recording_waveform",
    "save_figure",
    "unit_saliency",
]
