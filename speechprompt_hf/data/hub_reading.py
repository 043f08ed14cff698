"""Data sets of the Hub: at once what can be read without it, and one typed sentence where nothing can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from huggingface_hub import get_hf_file_metadata, hf_hub_url

from ..core.errors import DatasetError
from ..core.locations import is_disk_full, is_of_the_network, is_unreachable, not_reached

__all__ = ["reading_from_the_hub"]


@contextmanager
def reading_from_the_hub(name: str, *, revision: str | None = None, is_stream: bool = False) -> Iterator[None]:
    """Turn what `datasets` and the Hub's client raise while a data set is read into an error of ours.

    The client asks a Hub that nobody answers for half a minute. So one request without a second try comes first; where
    no connection can be made, `datasets` is told for this while to look into its cache alone.

    Args:
        name (`str`): Hub id.
        revision (`str`, *optional*): branch, tag or commit.
        is_stream (`bool`, defaults to `False`): whether rows are read as they come, past the cache.

    Raises:
        DatasetError: there is no such data set, or it cannot be read. It is no mistake of the user's (`is_mistake`)
            where the Hub cannot be reached, is busy, or breaks off, or where a disk is full.
    """
    forbidden = bool(datasets.config.HF_HUB_OFFLINE)
    nobody_answers = not (forbidden or is_stream) and _nobody_answers(name, revision)
    datasets.config.HF_HUB_OFFLINE = forbidden or nobody_answers
    try:
        yield
    except DatasetError:
        raise
    except ImportError as error:
        raise DatasetError(
            f"the data set {name!r} cannot be read: {error}",
            hint=f"download it as a folder with `hf download --repo-type dataset {name}` and give that folder",
        ) from error
    except Exception as error:  # the client raises errors of many unrelated types
        raise _what_failed(name, error, forbidden=forbidden, nobody_answers=nobody_answers, is_stream=is_stream) from (
            error
        )
    finally:
        datasets.config.HF_HUB_OFFLINE = forbidden


def _nobody_answers(name: str, revision: str | None) -> bool:
    try:
        get_hf_file_metadata(hf_hub_url(name, "README.md", repo_type="dataset", revision=revision))
    except Exception as error:
        # Whatever else goes wrong goes wrong again, or not, where the data set is read.
        return is_unreachable(error)
    return False


def _what_failed(
    name: str, error: Exception, *, forbidden: bool, nobody_answers: bool, is_stream: bool
) -> DatasetError:
    # While files become a table, `datasets` wraps what happened.
    both = [each for each in (error, error.__cause__) if each is not None]
    of_the_network = any(map(is_of_the_network, both))
    if of_the_network and (forbidden or nobody_answers or any(map(is_unreachable, both))):
        if is_stream:
            return DatasetError(
                f"{name} is no folder here, and the Hub {'must not be asked' if forbidden else 'cannot be reached'}",
                hint="check the spelling of a folder, the network and HF_HUB_OFFLINE; a stream has no cache",
                is_mistake=forbidden,
            )
        found = not_reached(name, DatasetError, local_files_only=forbidden)
        assert isinstance(found, DatasetError)
        return found
    if any(map(is_disk_full, both)):
        hint = "make room on the disk, or let HF_HOME name a folder on another one"
    elif of_the_network:
        hint = "the Hub was not reached, or is busy: check the network and try again"
    else:
        hint = "check the spelling and the connection"
        if is_stream:
            hint += f", or download it with `hf download --repo-type dataset {name}`"
    return DatasetError(
        f"{name!r} is neither a folder here nor a data set that could be {'streamed' if is_stream else 'loaded'} from "
        f"the Hub: {error}",
        hint=hint,
        is_mistake=not (of_the_network or any(map(is_disk_full, both))),
    )
