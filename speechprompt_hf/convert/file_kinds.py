"""What a file seems to be, so that one given to the wrong converter is sent to the right one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.conversion import CONVERSION_FILE
from ..core.errors import SpeechPromptError
from .archive import is_archive
from .byte_stream import ByteStream
from .catalogue_types import Kind
from .compressed import open_decompressed
from .errors import ConversionError
from .pickle_machine import Global, load_inert
from .pickle_names import PlainRules
from .torch_file import open_torch_file
from .torch_names import LazyTensor

__all__ = ["FileKind", "expecting", "kind_of_content", "kind_of_file", "wrong_kind"]

_CONVERTERS: dict[Kind, tuple[str, str]] = {
    "encoder": ("a HuBERT encoder of fairseq", "encoder.convert_encoder"),
    "quantizer": ("a k-means quantizer of scikit-learn", "quantizer.convert_quantizer"),
    "gslm": ("a unit language model of fairseq", "gslm.convert_gslm"),
    "unit-mbart": ("a unit mBART of fairseq", "unit_mbart.convert_unit_mbart"),
    "hifigan": ("a unit vocoder of fairseq", "hifigan.convert_hifigan"),
    "prompt": ("a prompt of SpeechPrompt", "prompt.convert_prompt"),
}
_KMEANS = ("KMeans", "MiniBatchKMeans")
_PROMPTS = ("_embed_prompts.", "decoder.sep_embed.", "decoder.prompt_linear_verbalizer.")
# How torch's files before 1.6 start: the pickle of a number.
_LEGACY_HEAD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ITSELF = "give the checkpoint itself"
# The first bytes of what is no pickle → what it is, and what to do.
_HEADS: tuple[tuple[bytes, str, str], ...] = (
    (b"RIFF", "a recording", _ITSELF),
    (b"fLaC", "a recording", _ITSELF),
    (b"OggS", "a recording", _ITSELF),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file that it stands for with git lfs pull"),
    (b"<!doctype html", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
)


@dataclass(frozen=True)
class FileKind:
    """What a file seems to be.

    Attributes:
        text (`str`): that, with an article.
        kind (`str`, *optional*): what converts it; `None` where nothing does.
        hint (`str`): what to do with it.
    """

    text: str
    kind: Kind | None
    hint: str


@contextmanager
def expecting(wanted: Kind, source: str | Path) -> Iterator[None]:
    """Let an error of a converter say what the file is, where that is another kind than the converter's.

    Only after an error the file is looked at again; nothing in it is executed.

    Args:
        wanted (`str`): what the converter converts.
        source (`str | Path`): the file that it was given.

    Raises:
        ConversionError: in the place of the error, if the file seems to be of another kind.
    """
    try:
        yield
    except SpeechPromptError as error:
        found = kind_of_file(source)
        if found is None or found.kind == wanted:
            raise
        raise wrong_kind(wanted, str(source), found) from error


def wrong_kind(wanted: Kind, name: str, found: FileKind) -> ConversionError:
    """The error of a file that is of another kind.

    Args:
        wanted (`str`): the kind that was asked for.
        name (`str`): of the file.
        found (`FileKind`): what it is.
    """
    return ConversionError(f"{name} seems to be {found.text}, not {_CONVERTERS[wanted][0]}", hint=found.hint)


def kind_of_file(source: str | Path) -> FileKind | None:
    """What a file or folder seems to be, by its first bytes and by the names in it.

    Args:
        source (`str | Path`): of any kind; it need not be there.

    Returns:
        `FileKind`, or `None` where nothing is known, which includes damaged and hostile files.
    """
    path = Path(source)
    try:
        if path.is_dir():
            return _kind_of_folder(path)
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(512)
        if is_archive(path):
            return FileKind(
                "an archive",
                None,
                "unpack it and give the checkpoint in it; speechprompt convert, and in Python "
                "speechprompt_hf.convert.source.open_source, open archives themselves",
            )
        if head.startswith((b"PK\x03\x04", _LEGACY_HEAD)):
            with open_torch_file(path) as checkpoint:
                return kind_of_content(checkpoint.content)
        return _kind_of_pickle(path) or _kind_of_head(head)
    except (SpeechPromptError, OSError):
        return None


def kind_of_content(content: Any) -> FileKind | None:
    """What a checkpoint of torch seems to be, by the names of its entries and weights.

    Args:
        content (`Any`): as `TorchFile` has it.
    """
    if not isinstance(content, Mapping):
        return None
    if _has_tensors(content.get("generator")):
        return _convertible("hifigan")
    if "generator" not in content and ("mpd" in content or "msd" in content):
        return FileKind("the discriminators of a vocoder", None, "give its generator, g_00500000 and its like")
    weights = content.get("model")
    if not _has_tensors(weights):
        return _kind_of_plain_weights(content)
    assert isinstance(weights, Mapping)
    return _kind_of_fairseq([key for key in weights if isinstance(key, str)])


def _kind_of_fairseq(keys: list[str]) -> FileKind | None:
    """What fairseq's trainer saved, by the names of the weights."""
    has_prompts = any(part in key for key in keys for part in _PROMPTS)
    has_encoder, has_decoder = (f"{stack}.embed_tokens.weight" in keys for stack in ("encoder", "decoder"))
    hears = any(key.startswith("feature_extractor.conv_layers.") for key in keys)
    if has_prompts and has_decoder:
        return FileKind(
            "a language model with its prompts in it",
            None,
            "give the checkpoint of the prompt alone, such as checkpoint_best.pt, to speechprompt convert prompt, and "
            "the language model from before to speechprompt convert gslm",
        )
    if has_prompts:
        return _convertible("prompt")
    if any(key.startswith("w2v_encoder.w2v_model.") for key in keys):
        return FileKind("a fine-tuned encoder of fairseq", None, "give the encoder from before its fine-tuning")
    if hears and any(key.startswith(("quantizer.vars", "project_q.", "input_quantizer.")) for key in keys):
        return FileKind("a wav2vec 2.0 of fairseq", None, "of its encoders only HuBERTs are converted")
    if hears:
        return _convertible("encoder")
    if has_encoder and has_decoder:
        return _convertible("unit-mbart")
    is_decoder_only = has_decoder and not any(key.startswith("encoder.") for key in keys)
    return _convertible("gslm") if is_decoder_only else None


def _kind_of_plain_weights(content: Mapping[Any, Any]) -> FileKind | None:
    """Weights without anything around them, as transformers saves them."""
    if not _has_tensors(content) or not all(isinstance(key, str) for key in content):
        return None
    return FileKind(
        "a state dictionary alone, such as pytorch_model.bin of transformers",
        None,
        "fairseq's checkpoints hold settings beside it; folders of transformers are opened by AutoModel, and those of "
        "language models over units by speechprompt train --base (base= in Python)",
    )


def _has_tensors(state: Any) -> bool:
    return isinstance(state, Mapping) and any(isinstance(value, LazyTensor) for value in state.values())


def _convertible(kind: Kind) -> FileKind:
    text, function = _CONVERTERS[kind]
    more = " and the --base that it was trained on" if kind == "prompt" else ""
    return FileKind(
        text, kind, f"convert it with speechprompt convert {kind}{more}, in Python speechprompt_hf.convert.{function}"
    )


class _NamesOnly(PlainRules):
    """Remembers names, and refuses the first that is not plain, with which the reading ends."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Global] = []

    def admits(self, name: Global) -> bool:
        """Whether the name may occur at all."""
        self.found.append(name)
        return super().admits(name)


def _kind_of_pickle(path: Path) -> FileKind | None:
    """An estimator of scikit-learn, by the first name that its pickle holds."""
    rules = _NamesOnly()
    try:
        with open_decompressed(path) as file:
            load_inert(ByteStream(file, str(path)), rules)
    except ConversionError:
        pass
    for name in rules.found:
        if name.module.split(".")[0] == "sklearn":
            if name.name in _KMEANS:
                return _convertible("quantizer")
            return FileKind(
                f"{str(name)[:100]} of scikit-learn",
                None,
                "of its estimators only KMeans and MiniBatchKMeans are converted",
            )
    return None


def _kind_of_head(head: bytes) -> FileKind | None:
    for start, text, hint in _HEADS:
        if head[: len(start)].lower() == start.lower():
            return FileKind(text, None, hint)
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**27:
        return FileKind(
            "weights in safetensors",
            None,
            "what is converted reads such files already; give the checkpoint as fairseq or joblib wrote it",
        )
    text = head.decode("ascii", errors="replace").strip()
    if text.startswith(("{", "[")):
        return FileKind("a JSON file", None, "give the checkpoint that it belongs to")
    words = text.splitlines()[0].split() if text else []
    if len(words) == 2 and words[1].isdecimal():
        return FileKind("a dictionary of units", None, "give the checkpoint, and this file as its dictionary (--dict)")
    return None


def _kind_of_folder(path: Path) -> FileKind | None:
    if (path / CONVERSION_FILE).is_file() or (path / "quantizer.safetensors").is_file():
        return FileKind("a folder that is converted already", None, "use it as it is")
    if (path / "config.json").is_file():
        return FileKind("a folder of transformers", None, "it needs no conversion, AutoModel opens it")
    return None
