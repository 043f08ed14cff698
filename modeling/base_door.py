"""The door through which the Auto classes reach an adapter: they jump to its base's class, which hands over here."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["AdapterDoor"]


class AdapterDoor:
    """Mixin of every class that is registered for a base's configuration.

    For a Hub id with an `adapter_config.json` the Auto classes replace the id by the base's, take the class of the
    *base's* configuration and call its `from_pretrained(base, adapter_kwargs={"_adapter_model_path": adapter id, …})`.
    The stock method then fails, because prompts cannot be injected into modules. So the call is handed over to the
    class that is registered as `opens` before any weight is read.

    Source:
        transformers `models/auto/auto_factory.py`, `_BaseAutoModelClass.from_pretrained`.
    """

    opens: ClassVar[Any] = None
    """The class behind the door, set where it is defined."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the base, or the adapter that the Auto classes came from."""
        if cls.opens is not None and (kwargs.get("adapter_kwargs") or {}).get("_adapter_model_path"):
            return cls.opens.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]
