"""What a label hangs on: the units that speak for it, in an adapter and in single recordings, and whether they do."""

from .drawing import draw_explanation, draw_labels, save_figure
from .faithfulness import FallRatio, RemovalCurves, fall_ratio, removal_curves
from .labels import LabelExplanation, UnitWeight, explain_labels
from .phones import Phone, ctc_phones, phones_of_units, read_textgrid
from .recording import RecordingExplanation, explain_recording, recording_waveform
from .saliency import DEFAULT_METHOD, METHODS, unit_saliency
from .scoring import UnitScorer

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "FallRatio",
    "LabelExplanation",
    "Phone",
    "RecordingExplanation",
    "RemovalCurves",
    "UnitScorer",
    "UnitWeight",
    "ctc_phones",
    "draw_explanation",
    "draw_labels",
    "explain_labels",
    "explain_recording",
    "fall_ratio",
    "phones_of_units",
    "read_textgrid",
    "recording_waveform",
    "removal_curves",
    "save_figure",
    "unit_saliency",
]
