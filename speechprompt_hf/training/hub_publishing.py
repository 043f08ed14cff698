"""What `PromptTrainer` publishes: whole adapters, one commit a push, on a base that is on the Hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.utils import logging

from ..core.embedded import EMBEDDED_BASES
from ..core.errors import HubError
from ..core.files import read_json
from ..core.locations import is_hub_id
from ..hub.base_identity import PublishedBase
from ..hub.card import write_model_card
from ..hub.destination import Destination, Published
from ..hub.push import push_adapter, save_for_the_hub
from ..hub.staging import is_adapter_file, is_training_file, temporary_stage
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from .hub_checkpoint import copy_what_is_resumed_from

__all__ = ["PublishedBase", "RunPublisher", "check_can_be_published"]

logger = logging.get_logger(__name__)


def check_can_be_published(
    model: Any, processor: Any, *, api: HfApi, base: str | None = None, base_revision: str | None = None
) -> PublishedBase:
    """Rehearse a push before training: everything but the upload.

    Args:
        model (`SpeechPromptPreTrainedModel`): what will be trained.
        processor (`SpeechUnitProcessor`, *optional*): will be saved beside it.
        api (`HfApi`): with endpoint and token.
        base (`str`, *optional*): the base on the Hub, where the model's is a folder, embedded or without a name.
        base_revision (`str`, *optional*): branch, tag or commit of the base.

    Returns:
        `PublishedBase`.

    Raises:
        AdapterError: the model is no prompted language model.
        HubError: the base is not on the Hub, or the Hub cannot be reached.
        FingerprintMismatchError: the base on the Hub has other weights or units than the model's.
    """
    if processor is None:
        logger.warning(
            "nothing is known of a processor, so the repository will take units and no recordings: give "
            "processing_class=SpeechUnitProcessor..., or attach it to the model"
        )
    named = model.config.base_model_name_or_path
    with temporary_stage(Path("the untrained adapter")) as temporary:
        saved, stage = temporary / "saved", temporary / "stage"
        model.save_pretrained(saved)
        _save_processor(processor, saved, "rehearsal/base")
        try:
            save_for_the_hub(saved, stage, api=api, base=base, base_revision=base_revision)
        except HubError as error:
            if base is not None or (is_hub_id(named) and named not in EMBEDDED_BASES):
                raise
            folder = named or "the folder where you save it"
            raise HubError(
                f"the model's base is {named or 'a language model without a name'}, which nobody else can open",
                hint=f"publish {folder} with speechprompt push-base, then PromptTrainer(..., "
                'hub_base="organisation/name")',
            ) from error
        values = read_json(stage / "config.json")
    return PublishedBase(values["base_model_name_or_path"], values["base_revision"])


class RunPublisher:
    """Publishes the states of one run to one repository; those of its checkpoints in the background, in their order.

    Args:
        repo_id (`str`): `organisation/name`.
        base (`PublishedBase`): what the states name as their base.
        token (`str`, *optional*): instead of the one of `hf auth login`.
        private (`bool`, *optional*): for a new repository.
    """

    def __init__(
        self, repo_id: str, base: PublishedBase, *, token: str | None = None, private: bool | None = None
    ) -> None:
        self.repo_id = repo_id
        self.base = base
        self.private = private
        self._api = HfApi(token=token)
        self._jobs: list[Future[None]] = []

    @property
    def is_busy(self) -> bool:
        """Whether a push in the background has not ended."""
        return not all(job.done() for job in self._jobs)

    def wait(self) -> None:
        """Wait for the pushes in the background."""
        for job in self._jobs:
            job.result()
        self._jobs.clear()

    def in_background(self, call: Callable[[], Any]) -> Future[Any]:
        """Run a call behind those that were given before."""
        return self._api.run_as_future(call)

    def start(
        self,
        checkpoint: Path,
        processor: Any,
        *,
        message: str,
        branch: str | None = None,
        resume_as: str | None = None,
    ) -> None:
        """Publish a checkpoint in the background, as one commit. A failure is a warning: training goes on.

        Args:
            checkpoint (`Path`): folder of the checkpoint; copied, so that it may be deleted at once.
            processor (`SpeechUnitProcessor`, *optional*): published beside it.
            message (`str`): of the commit.
            branch (`str`, *optional*): `main` by default.
            resume_as (`str`, *optional*): folder of the repository for what training goes on from.
        """
        copies = ExitStack()
        try:
            copy = Path(copies.enter_context(tempfile.TemporaryDirectory()))
            saved = copy / "saved"
            self._copy(checkpoint, saved, processor)
            if resume_as is not None:
                copy_what_is_resumed_from(checkpoint, copy / resume_as)
        except OSError as error:  # for example a full disk
            copies.close()
            logger.warning(f"{message}: {checkpoint} cannot be copied, training goes on unpublished: {error}")
            return

        def publish() -> None:
            try:
                with copies:
                    self._publish(saved, copy, message, branch, resume_as)
            # Whatever happens on the Hub, hours of training are worth more than one push.
            except Exception as error:
                logger.warning(f"{message}: not published, training goes on: {error}")

        self._jobs.append(self.in_background(publish))

    def publish(
        self, folder: Path, processor: Any, *, message: str | None = None, branch: str | None = None, **options: Any
    ) -> Published:
        """Publish what was saved in a folder, as one commit.

        Args:
            folder (`Path`): of the adapter; everything else in it stays here.
            processor (`SpeechUnitProcessor`, *optional*): published beside it.
            message (`str`, *optional*): of the commit.
            branch (`str`, *optional*): `main` by default.
            options: `license`, `dataset`, `language`, `token` of [`push_adapter`].

        Returns:
            `Published`.

        Raises:
            HubError: the Hub refused or could not be reached; the repository is as it was.
        """
        with temporary_stage(folder) as temporary:
            saved = temporary / "saved"
            self._copy(folder, saved, processor)
            options = {"token": self._api.token, **options}
            return push_adapter(
                saved,
                self.repo_id,
                base=self.base.repo_id,
                base_revision=self.base.commit,
                private=self.private,
                message=message,
                branch=branch,
                **options,
            )

    def _copy(self, folder: Path, target: Path, processor: Any) -> None:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and (is_adapter_file(name) or name == "report.json"):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name)
        _save_processor(processor, target, self.base.repo_id, self.base.commit)

    def _publish(self, saved: Path, folder: Path, message: str, branch: str | None, resume_as: str | None) -> None:
        stage = folder / "stage"
        model_type = SpeechPromptConfig.model_type
        target = Destination.find(self._api, self.repo_id, branch=branch, model_type=model_type)
        base, commit = self.base.repo_id, self.base.commit
        save_for_the_hub(saved, stage, api=self._api, base=base, base_revision=commit)
        target.take_over_card(stage)
        write_model_card(stage, repo_id=self.repo_id, base_id=base, base_revision=commit)
        if resume_as is not None:
            shutil.move(folder / resume_as, stage / resume_as)
        target.publish(
            stage,
            message=message,
            private=self.private,
            replaces=lambda path: (
                is_adapter_file(path) or is_training_file(path) or path.startswith(f"{resume_as or ' '}/")
            ),
        )


def _save_processor(processor: Any, folder: Path, base: str, revision: str | None = None) -> None:
    if processor is not None:
        processor.save_pretrained(folder, base_source=base, base_revision=revision)
