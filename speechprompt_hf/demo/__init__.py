"""A page in the browser on which adapters are tried out, and the Space that shows it on the Hub."""

from .answers import Answer, DemoAnswers, LabelAnswer, Picture, Refusal, SpeechAnswer, TextAnswer
from .opening import DemoTask, named_adapters, open_tasks
from .page import build_page, launch_page, run_page
from .space import push_space, write_space
from .uploads import UploadLimits, read_upload

__all__ = [
    "Answer",
    "DemoAnswers",
    "DemoTask",
    "LabelAnswer",
    "Picture",
    "Refusal",
    "SpeechAnswer",
    "TextAnswer",
    "UploadLimits",
    "build_page",
    "launch_page",
    "named_adapters",
    "open_tasks",
    "push_space",
    "read_upload",
    "run_page",
    "write_space",
]
