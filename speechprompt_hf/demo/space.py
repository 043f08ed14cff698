"""The page as a Space of the Hub: a folder with `app.py`, what it needs, and the adapters beside it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import yaml_dump

from ..core.embedded import EMBEDDED_BASES
from ..core.errors import AdapterError, ConfigurationError, HubError
from ..core.files import write_text
from ..core.locations import is_hub_id
from ..hub.card_metadata import read_readme
from ..hub.destination import Destination, Published
from ..hub.push import save_for_the_hub
from ..hub.staging import adapter_values, stage_adapter, temporary_stage
from ..version import __version__
from .opening import EXAMPLES_FOLDER, examples_of
from .page import DEFAULT_TITLE
from .space_vocoders import VOCODERS_FOLDER, place_vocoders, plain_name

__all__ = ["push_space", "write_space"]

_MARK = "# Written by `speechprompt push --space`, which replaces it. Take this line out, and it refuses to."
_ADAPTERS = "adapters"
_FILES = ("app.py", "requirements.txt", "README.md")
# Where gradio is not installed: the oldest release that the page is made for.
_GRADIO_VERSION = "6.31.0"
_APP = '''{mark}
"""{title}: the page of speechprompt_hf on which recordings are answered by adapters."""

from pathlib import Path

from speechprompt_hf.demo import run_page

HERE = Path(__file__).resolve().parent
ADAPTERS = {{
{adapters}
}}

if __name__ == "__main__":
    run_page(ADAPTERS, title={title_literal}{vocoder})
'''
_BODY = """
# {title}

Record or upload something, and see what these adapters {answer}, with the units that they read:

{tasks}

Run it on your own computer: `pip install -r requirements.txt`, then `python app.py`. Made by
`speechprompt push --space` of speechprompt-hf {version}.
"""
# What the Hub writes into a Space that was just made.
_EMPTY_BODY = re.compile(r"\s*(Check out the configuration reference at \S+\s*)?")


def write_space(
    adapters: Mapping[str, str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    title: str = DEFAULT_TITLE,
    package: str | None = None,
    license: str | None = None,
    base: str | None = None,
    base_revision: str | None = None,
    api: HfApi | None = None,
    vocoder: str | os.PathLike[str] | None = None,
) -> None:
    """Write what a Space needs into a folder; nothing is uploaded.

    Adapters in folders are copied, with up to six recordings of their folder `examples`; those on the Hub are named.
    A base inside this package comes with it; another one must be on the Hub.

    Args:
        adapters (`Mapping[str, str | PathLike]`): name → folder or Hub id.
        folder (`str | PathLike`): where to write; a README.md in it keeps its text and its further metadata.
        title (`str`, defaults to `"Speech prompts"`): of the page and the Space.
        package (`str`, *optional*): how pip is to be told of this package; this version of it by default.
        license (`str`, *optional*): of the Space.
        base (`str`, *optional*): the base on the Hub, where adapters name a folder.
        base_revision (`str`, *optional*): branch, tag or commit of the base; its commit is written.
        api (`HfApi`, *optional*): for bases on the Hub.
        vocoder (`str | PathLike`, *optional*): of adapters that answer with speech: a folder, which is copied, or a
            Hub id, which is named. By default the one that each of them names; adapters on the Hub are not asked.

    Raises:
        AdapterError: a folder holds no whole adapter, or no vocoder.
        ConfigurationError: a name is neither a folder nor a Hub id, or there is none; an adapter that answers with
            speech has no vocoder, or one of other units; or a vocoder was given, and none answers with speech.
        HubError: a base is not on the Hub, or the Hub cannot be reached.
        FingerprintMismatchError: the base on the Hub has other weights or units.
    """
    if not adapters:
        raise ConfigurationError("no adapter was given", hint="give a folder or Hub id for each task's name")
    target = Path(folder)
    places: dict[str, str] = {}
    hub_ids: list[str] = []
    for number, (name, given) in enumerate(adapters.items()):
        source = os.fspath(given)
        if os.path.isdir(source):
            # The number keeps apart what is called alike without its signs.
            place = f"{_ADAPTERS}/{number}-{plain_name(name, 'adapter')}"
            hub_ids += _copy_adapter(Path(source), target / place, api, base, base_revision)
            places[name] = f"HERE / {place!r}"
        elif is_hub_id(source):
            hub_ids.append(source)
            places[name] = repr(source)
        else:
            raise ConfigurationError(
                f"there is no folder {source}, and no Hub id has this form",
                hint="check the spelling, or give organisation/name",
            )
    argument, named = place_vocoders(adapters, target, vocoder)
    hub_ids += named
    write_text(
        target / "app.py",
        _APP.format(
            mark=_MARK,
            title=_one_line(title),
            adapters="\n".join(f"    {name!r}: {place}," for name, place in places.items()),
            title_literal=repr(title),
            vocoder=argument,
        ),
    )
    write_text(target / "requirements.txt", (package or f"speechprompt-hf[demo]=={__version__}") + "\n")
    _write_readme(target / "README.md", list(adapters), title, license, hub_ids, speaks=bool(argument))


def push_space(
    adapters: Mapping[str, str | os.PathLike[str]],
    repo_id: str,
    *,
    title: str = DEFAULT_TITLE,
    package: str | None = None,
    license: str | None = None,
    base: str | None = None,
    base_revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    endpoint: str | None = None,
    vocoder: str | os.PathLike[str] | None = None,
) -> Published:
    """Publish the page of some adapters as a Space, in one commit.

    Args:
        adapters (`Mapping[str, str | PathLike]`): as in [`write_space`].
        repo_id (`str`): `organisation/name` of the Space.
        title (`str`, defaults to `"Speech prompts"`): as in [`write_space`].
        package (`str`, *optional*): as in [`write_space`].
        license (`str`, *optional*): as in [`write_space`].
        base (`str`, *optional*): as in [`write_space`].
        base_revision (`str`, *optional*): as in [`write_space`].
        private (`bool`, *optional*): for a new Space.
        token (`str`, *optional*): instead of the one of `hf auth login`.
        message (`str`, *optional*): of the commit.
        branch (`str`, *optional*): `main` by default.
        create_pr (`bool`, defaults to `False`): open a pull request instead of committing.
        endpoint (`str`, *optional*): another Hub.
        vocoder (`str | PathLike`, *optional*): as in [`write_space`].

    Returns:
        `Published`: one commit.

    Raises:
        SpeechPromptError: what [`write_space`] raises.
        HubError: the Space has an `app.py` that this command has not written; the Hub refused or could not be
            reached. The Space is as it was.
    """
    api = HfApi(endpoint=endpoint, token=token)
    target = Destination.find_space(api, repo_id, branch=branch)
    app = target.file("app.py")
    if app is not None and _MARK not in app.read_text(encoding="utf-8", errors="replace"):
        raise HubError(
            f"{repo_id} has an app.py of its own, which a push would overwrite",
            hint="give the page a Space of its own",
        )
    with temporary_stage(Path(next(iter(adapters.values()), ""))) as stage:
        target.take_over_card(stage)
        write_space(
            adapters,
            stage,
            title=title,
            package=package,
            license=license,
            base=base,
            base_revision=base_revision,
            api=api,
            vocoder=vocoder,
        )
        return target.publish(
            stage,
            message=message or "Upload a page of speech prompts",
            private=private,
            create_pr=create_pr,
            replaces=lambda path: path in _FILES or path.startswith((f"{_ADAPTERS}/", f"{VOCODERS_FOLDER}/")),
        )


def _copy_adapter(
    source: Path, target: Path, api: HfApi | None, base: str | None, base_revision: str | None
) -> list[str]:
    """Copy an adapter with its examples; returns the base's Hub id, if that is where it comes from."""
    values = adapter_values(source)
    if not (source / "processor_config.json").is_file():
        raise AdapterError(
            f"{source} has no processor that makes units of recordings",
            hint="save the adapter again on a base that has a processor",
        )
    target.mkdir(parents=True)
    named = values.get("base_model_name_or_path")
    if base is None and named in EMBEDDED_BASES:
        stage_adapter(source, target, base_id=named, base_commit=None)
        hub_ids = []
    else:
        save_for_the_hub(source, target, api=api or HfApi(), base=base, base_revision=base_revision)
        hub_ids = [str(adapter_values(target)["base_model_name_or_path"])]
    for example in examples_of(source):
        (target / EXAMPLES_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(example, target / EXAMPLES_FOLDER / example.name)
    return hub_ids


def _write_readme(
    path: Path, names: list[str], title: str, license: str | None, hub_ids: list[str], *, speaks: bool
) -> None:
    present = read_readme(path)
    metadata: dict[str, Any] = present.values
    proposed = {"title": title, "emoji": "🔊", "license": license}
    metadata |= {key: value for key, value in proposed.items() if value is not None and not metadata.get(key)}
    if license is not None:
        metadata["license"] = license
    # Without these the Space does not run, whatever stood there.
    metadata |= {
        "sdk": "gradio",
        "sdk_version": _gradio_version(),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "app.py",
    }
    if hub_ids:
        metadata["models"] = list(dict.fromkeys([*(metadata.get("models") or []), *hub_ids]))
    body = present.body
    if _EMPTY_BODY.fullmatch(body):
        body = _BODY.format(
            title=_one_line(title),
            answer="answer" if speaks else "take it for",
            tasks="\n".join(f"- {_one_line(name)}" for name in names),
            version=__version__,
        )
    write_text(path, f"---\n{yaml_dump(metadata)}---\n{body}")


def _gradio_version() -> str:
    try:
        return version_of("gradio")
    except PackageNotFoundError:
        return _GRADIO_VERSION


def _one_line(text: str) -> str:
    """For docstrings and Markdown: no line breaks, quotes or backslashes that would end or change them."""
    return re.sub(r'["\\`<>\s]+', " ", text).strip()
