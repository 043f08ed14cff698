"""Publishing with transformers' own calls: what they leave out, and what nobody could open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, try_to_load_from_cache
from transformers import PreTrainedModel

from ..core.embedded import EMBEDDED_BASES
from ..core.errors import HubError
from ..core.locations import looks_like_a_path
from .adapter_card import write_card
from .configuration_speechprompt import SpeechPromptConfig
from .saved_processor import save_processor

__all__ = ["PublishedModel", "loaded_commit", "upload_options"]

_EMPTY_CARD = "model that has been pushed on the Hub. This model card has been automatically generated."


class PublishedModel(PreTrainedModel):
    """What `push_to_hub` and `Trainer` need of a prompted language model."""

    config: SpeechPromptConfig

    if TYPE_CHECKING:

        @property
        def processor(self) -> Any:
            """The attached processor, or `None`."""

        def num_trained_parameters(self) -> int:
            """Numbers that training changes."""

    def create_or_update_model_card(self, output_dir: str | os.PathLike[str]) -> None:
        """Write a short `README.md`; `transformers.Trainer` calls this before it uploads `output_dir`.

        Where Trainer has saved its arguments, `training_args.bin` is taken away: it is a pickle, tokens in it, that
        nothing reads again.

        Args:
            output_dir (`str | PathLike`): where the model was saved.

        Raises:
            HubError: Trainer has saved there, and the base is not on the Hub, so that nobody could open what would be
                uploaded.
        """
        folder = Path(output_dir)
        write_card(folder, self.config, self.num_trained_parameters())
        arguments = folder / "training_args.bin"
        if arguments.is_file():
            check_base_is_public(self.config, os.fspath(folder))
            arguments.unlink()
            self.config.base_revision = loaded_commit(self.config)
            self.save_pretrained(folder)
            self._save_processor(folder)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:  # type: ignore[override]
        """Upload what `save_pretrained` writes, and the attached processor, as one commit.

        `speechprompt push` and `speechprompt_hf.hub.push.push_adapter` do more: they compare the base on the Hub with
        this one, write a full card, and let the adapter open without this package.

        Args:
            repo_id (`str`): the repository; it is made if it is not there.
            options: `commit_message`, `commit_description`, `private`, `token`, `revision`, `create_pr`, `tags`.

        Returns:
            `CommitInfo`.

        Raises:
            HubError: the base is not on the Hub, so that nobody could open it.
        """
        check_base_is_public(self.config, "what save_pretrained writes")
        self.config.base_revision = loaded_commit(self.config)
        named = self.config.vocoder_name_or_path, self.config.vocoder_revision
        try:
            if named[0] is not None and (looks_like_a_path(named[0]) or os.path.isdir(named[0])):
                # A folder of this machine: nobody else could open it, nor is it theirs to know.
                self.config.vocoder_name_or_path = self.config.vocoder_revision = None
            return super().push_to_hub(repo_id, **options)  # type: ignore[arg-type]
        finally:
            self.config.vocoder_name_or_path, self.config.vocoder_revision = named

    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **options: Any) -> Any:
        readme = Path(working_dir) / "README.md"
        # Where the repository has no card, transformers has put its empty form in the place of ours.
        if _EMPTY_CARD in readme.read_text(encoding="utf-8"):
            tags = ModelCard.load(readme).data.tags or []
            readme.unlink()
            write_card(readme.parent, self.config, self.num_trained_parameters())
            card = ModelCard.load(readme)
            card.data.tags = [*dict.fromkeys([*(card.data.tags or []), *tags])]
            card.save(readme)
        self._save_processor(working_dir)
        return super()._upload_modified_files(working_dir, *args, **options)

    def _save_processor(self, folder: str | os.PathLike[str]) -> None:
        save_processor(self.processor, folder, self.config, on_the_hub=True)


def check_base_is_public(config: SpeechPromptConfig, saved: str) -> None:
    """Refuse to publish what names its base by a folder, or by a name that only the installed package knows."""
    name = config.base_model_name_or_path
    embedded = name in EMBEDDED_BASES and config.base_revision is None
    if name and not embedded and not looks_like_a_path(name) and not os.path.isdir(name):
        return
    raise HubError(
        f"the base is named {name!r}, which is not on the Hub, so nobody else could open the adapter",
        hint=f"publish the base once, speechprompt push-base {name or 'FOLDER'} organisation/name, then push {saved} "
        "with speechprompt push FOLDER ID --base organisation/name",
    )


def loaded_commit(config: SpeechPromptConfig) -> str | None:
    """The commit that the base's revision stands for in the cache; the revision itself where it is not cached."""
    name = config.base_model_name_or_path
    if not name or looks_like_a_path(name) or os.path.isdir(name):
        return config.base_revision
    path = try_to_load_from_cache(name, "config.json", revision=config.base_revision or "main")
    return Path(path).parent.name if isinstance(path, str) else config.base_revision


def upload_options(given: dict[str, Any]) -> dict[str, Any]:
    """Those of the keywords that `push_to_hub` knows, without `None`."""
    known = ("commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")
    return {key: value for key, value in given.items() if key in known and value is not None}
