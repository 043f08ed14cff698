"""The page: a recording and a task go in, an answer comes out at once, and a picture of it a moment later.

Nothing is asked of other hosts: fonts are the system's, gradio's telemetry is off, its footer and its record of runs
in the browser are left out.
"""

from __future__ import annotations

import base64
import html
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from huggingface_hub import constants

from ..core.errors import ConfigurationError
from ..core.extras import require
from .answers import Answer, DemoAnswers, LabelAnswer, Picture, Refusal, SpeechAnswer
from .opening import open_tasks
from .uploads import UploadLimits

__all__ = ["build_page", "launch_page", "run_page"]

DEFAULT_TITLE = "Speech prompts"

_MOST_RADIO_BUTTONS, _SHOWN_LABELS = 6, 10
# Visitors that wait at once; the next one is told to come back.
_LONGEST_QUEUE = 32
# Uploads are deleted once they are this old, in seconds.
_CLEANING_INTERVAL, _UPLOAD_AGE = 300, 1800
_EXTRA = "demo"
_Asked = dict[str, tuple[str | None, str]]


def build_page(answers: DemoAnswers, *, title: str = DEFAULT_TITLE) -> Any:
    """The page of some tasks, not yet shown.

    Args:
        answers (`DemoAnswers`): what answers.
        title (`str`, defaults to `"Speech prompts"`): its heading.

    Returns:
        `gradio.Blocks`: with the endpoints `/answer` and `/picture`.

    Raises:
        MissingDependencyError: gradio is not installed.
    """
    gradio = _gradio()
    names = list(answers.tasks)
    limits = answers.limits
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(_CLEANING_INTERVAL, _UPLOAD_AGE)) as page:
        gradio.HTML(_about(title, limits), elem_id="about")
        picker = gradio.Radio if len(names) <= _MOST_RADIO_BUTTONS else gradio.Dropdown
        task = picker(choices=names, value=names[0], label="Task", visible=len(names) > 1, elem_id="task")
        recording = gradio.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Recording",
            editable=False,
            buttons=[],
            elem_id="recording",
        )
        message = gradio.HTML(elem_id="message")
        label = gradio.Label(label="Label", num_top_classes=_SHOWN_LABELS, visible=False, elem_id="label")
        text = gradio.Textbox(label="Text", visible=False, interactive=False, lines=2, elem_id="text")
        # No streaming and no format: the bytes are shown as they are, neither louder nor softer.
        speech = gradio.Audio(
            label="Answer, made by a vocoder", visible=False, interactive=False, buttons=["download"], elem_id="speech"
        )
        picture = gradio.HTML(elem_id="picture")
        examples = [[str(path), each.name] for each in answers.tasks.values() for path in each.examples]
        if examples:
            gradio.Examples(examples, inputs=[recording, task], label="Recordings to try", cache_examples=False)
        # What the visitor has asked for last; one object a visitor, which both events see change.
        asked = gradio.State({})
        answering = gradio.on(
            [recording.change, task.change],
            _answering(gradio, answers),
            inputs=[recording, task, asked],
            outputs=[message, label, text, picture, speech],
            api_name="answer",
            trigger_mode="always_last",
            show_progress="minimal",
            show_progress_on=[label, text, speech],
        )
        # An event of its own: the label does not wait for the picture, and other visitors' labels do not either.
        answering.then(
            _drawing(gradio, answers),
            inputs=[recording, task, asked],
            outputs=picture,
            api_name="picture",
            # By default none is asked for while an earlier one is being drawn.
            trigger_mode="multiple",
            show_progress="minimal",
        )
    page.queue(max_size=_LONGEST_QUEUE)
    return page


def launch_page(
    page: Any,
    *,
    limits: UploadLimits | None = None,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
) -> str:
    """Show a page; the program goes on, and the page is there until it ends or `page.close()` is called.

    Args:
        page (`gradio.Blocks`): from `build_page`.
        limits (`UploadLimits`, *optional*): larger files are refused while they are uploaded.
        host (`str`, *optional*): address to listen on; by default `GRADIO_SERVER_NAME`, else this computer alone.
        port (`int`, *optional*): by default `GRADIO_SERVER_PORT`, else the first free one from 7860.
        share (`bool`, defaults to `False`): also a public address, through gradio's servers, for a week.
        open_browser (`bool`, defaults to `False`): open it in the browser.

    Returns:
        `str`: its address; the public one with `share`.

    Raises:
        ConfigurationError: the port is taken, the host is none of this computer's, or a public address is wanted and
            the network must not be used or is not there.
    """
    gradio = _gradio()
    if share and constants.HF_HUB_OFFLINE:
        raise ConfigurationError("a public address needs the network", hint="unset HF_HUB_OFFLINE, or leave share out")
    _check_address(host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1", port)
    fonts = ["system-ui", "sans-serif"]
    try:
        _, local_url, share_url = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            show_error=False,
            quiet=True,
            max_file_size=(limits or UploadLimits()).max_bytes,
            theme=gradio.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
            css=_CSS,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
        )
    except OSError as error:
        # No port of gradio's range is free, or GRADIO_SERVER_PORT is taken.
        raise ConfigurationError(f"the page cannot be shown: {error}", hint="name a free port") from error
    if share and not share_url:
        page.close()
        raise ConfigurationError("no public address was given", hint="check the network, or leave share out")
    return str(share_url or local_url)


def run_page(
    adapters: Mapping[str, str | os.PathLike[str]],
    *,
    title: str = DEFAULT_TITLE,
    limits: UploadLimits | None = None,
    vocoder: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    **hub: Any,
) -> None:
    """Open adapters and show their page until the program is stopped: what a Space's `app.py` does.

    Args:
        adapters (`Mapping[str, str | PathLike]`): name → folder or Hub id.
        title (`str`, defaults to `"Speech prompts"`): the page's heading.
        limits (`UploadLimits`, *optional*): what is taken.
        vocoder (`str | PathLike | Mapping`, *optional*): of adapters that answer with speech, as in `open_tasks`.
        hub: of `open_tasks`.

    Raises:
        SpeechPromptError: an adapter cannot be opened, gradio is not installed, or the page cannot be shown.
    """
    answers = DemoAnswers(open_tasks(adapters, vocoder=vocoder, **hub), limits)
    answers.warm_up()
    page = build_page(answers, title=title)
    print(f"page: {launch_page(page, limits=answers.limits)}", file=sys.stderr, flush=True)  # noqa: T201
    page.block_thread()


def _check_address(host: str, port: int | None) -> None:
    """Refuse at once what gradio would try a hundred ports for, five seconds each."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"the page cannot be shown on {host}, port {port or 'any'}: {error}",
            hint="name a free port, and a host that is this computer's",
        ) from error


def _gradio() -> Any:
    # Read when gradio is imported: its version check and its reports of launches.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    return require("gradio", _EXTRA)


def _about(title: str, limits: UploadLimits) -> str:
    minutes = (_UPLOAD_AGE + _CLEANING_INTERVAL) // 60
    return (
        f"<h1>{html.escape(title)}</h1><p>Record something or upload a file of up to {limits.max_seconds:g} seconds "
        f"and {limits.max_bytes / 1e6:g} MB (wav, flac, ogg, opus, mp3). It goes to the program that shows this page, "
        f"and to nobody else, and is deleted within {minutes} minutes.</p>"
    )


def _answering(gradio: Any, answers: DemoAnswers) -> Callable[[str | None, str, _Asked], Iterator[tuple[Any, ...]]]:
    hidden: dict[str, Any] = {"visible": False, "value": None}

    def shown(answer: Answer | None) -> tuple[Any, ...]:
        """Updates of message, label, text, picture and speech; the picture of an earlier answer goes."""
        refusal = ""
        label, text, speech = hidden, {**hidden, "value": ""}, hidden
        if isinstance(answer, Refusal):
            refusal = _sentence(answer)
        elif isinstance(answer, LabelAnswer):
            label = {"visible": True, "value": answer.probabilities}
        elif isinstance(answer, SpeechAnswer):
            speech = {"visible": True, "value": answer.wav}
        elif answer is not None:
            text = {"visible": True, "value": answer.text}
        return refusal, gradio.update(**label), gradio.update(**text), "", gradio.update(**speech)

    def answer(recording: str | None, task: str, asked: _Asked) -> Iterator[tuple[Any, ...]]:
        """Answer a recording: with a label, a text, or speech."""
        asked["last"] = (recording, task)
        if recording is None:
            yield shown(None)
            return
        for each in answers.answer(task, recording):
            yield shown(each)

    return answer


def _drawing(gradio: Any, answers: DemoAnswers) -> Callable[[str | None, str, _Asked], Any]:
    def picture(recording: str | None, task: str, asked: _Asked) -> Any:
        """Draw a recording, its units, and what speaks for its label or what is said after it."""
        if recording is None:
            return ""
        drawn = answers.picture(task, recording)
        if asked.get("last") not in (None, (recording, task)):
            # Something else was asked for in the meantime: this would stand below another answer.
            return gradio.skip()
        # Why a recording cannot be used stands there already.
        return _image(drawn) if isinstance(drawn, Picture) else ""

    return picture


def _sentence(refusal: Refusal) -> str:
    return f'<p role="alert">{html.escape(refusal.sentence)}</p>'


def _image(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    words = html.escape(picture.description)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{words}"><figcaption>{words}</figcaption></figure>'


_CSS = """
.gradio-container { max-width: 760px !important; margin: 0 auto !important; }
#message p { font-size: 1.1em; padding: 0.8em; border-left: 4px solid #b3261e; background: #fdecea; color: #5f1410; }
#picture figure { margin: 0; }
#picture img { width: 100%; background: #ffffff; }
#picture figcaption { font-size: 0.85em; margin-top: 0.4em; }
"""
