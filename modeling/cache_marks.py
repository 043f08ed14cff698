"""Which columns of a cache are prompts: a cache that arrives filled was filled by a prompt."""

from __future__ import annotations

from transformers import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from ..core.errors import ConfigurationError

__all__ = ["CACHE_FIELD", "cache_length", "one_cache", "prompt_columns_of_cache"]

# transformers 5.24 renamed the field; 5.23 knows the old name only.
CACHE_FIELD = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"

_MARK = "_speechprompt_prompt_columns"


def one_cache(past_key_values: Cache | None, cache: Cache | None) -> Cache | None:
    """The cache under either of its names.

    Raises:
        ConfigurationError: two different caches were given.
    """
    if past_key_values is not None and cache is not None and past_key_values is not cache:
        raise ConfigurationError(
            "two caches were given, as past_key_values and as cache", hint="they are one argument"
        )
    return past_key_values if cache is None else cache


def cache_length(cache: Cache) -> int:
    """Columns that the cache holds."""
    return int(cache.get_seq_length())


def prompt_columns_of_cache(cache: Cache | None, columns_to_come: int = 0) -> int:
    """Leading columns of a cache that are prompts.

    On first sight of a cache its length is remembered on it: columns that were there before the model wrote any can
    only be a prompt, as PEFT's prefix tuning makes them. An empty cache has none, unless the model is about to write
    input prompts.

    Args:
        cache (`Cache`, *optional*): the cache of this forward pass, before it is extended.
        columns_to_come (`int`, defaults to 0): input prompts in this pass, if the cache is empty.

    Returns:
        `int`: the number of prompt columns.
    """
    if cache is None:
        return columns_to_come
    length = cache_length(cache)
    if length == 0:
        setattr(cache, _MARK, columns_to_come)
    elif not hasattr(cache, _MARK):
        setattr(cache, _MARK, length)
    return int(getattr(cache, _MARK))
