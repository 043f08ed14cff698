"""What suites of all kinds have in common: names that are checked, and how a part of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..core.errors import ConfigurationError
from .datasets import DatasetSpec

__all__ = ["DeclaredSuite"]


class DeclaredSuite:
    """A base of frozen dataclasses with the fields `name`, `title`, `datasets`, `methods`, `seeds` and `baseline`."""

    SUBJECT: ClassVar[str] = "data set"
    """What methods run on, as errors call it."""
    IS_THERE: ClassVar[str] = "is there"
    """What errors deny where nothing can run."""

    if TYPE_CHECKING:

        @property
        def name(self) -> str:
            """Of the suite and its results."""

        @property
        def title(self) -> str:
            """One sentence."""

        @property
        def datasets(self) -> tuple[DatasetSpec, ...]:
            """That methods read."""

        @property
        def methods(self) -> tuple[Any, ...]:
            """In the order of the tables."""

        @property
        def seeds(self) -> tuple[int, ...]:
            """That methods run with."""

        @property
        def baseline(self) -> str | None:
            """The method that the others are compared with."""

    @property
    def heading(self) -> str:
        """Of reports."""
        return f"{self.name}: {self.title}" if self.title else self.name

    @property
    def subjects(self) -> tuple[Any, ...]:
        """What methods run on, in the order of the tables: data sets."""
        return self.datasets

    def specs_of(self, subject: Any) -> tuple[DatasetSpec, ...]:
        """The data sets that one of `subjects` needs."""
        return (subject,)

    def baseline_of(self, method: Any) -> str | None:
        """The method that this one is compared with, its own or the suite's; `None` for the baseline itself."""
        name = getattr(method, "baseline", None) or self.baseline
        return None if name == method.name else name

    def selected(self, only: Sequence[str] = (), num_seeds: int | None = None) -> Self:
        """The suite with another number of seeds, after a look at what `only` names.

        Args:
            only (`Sequence[str]`): see `methods_of`.
            num_seeds (`int`, *optional*): the first so many seeds; more than the suite has are counted on.

        Raises:
            ConfigurationError: a text that names nothing, or no seeds.
        """
        if num_seeds is not None and num_seeds < 1:
            raise ConfigurationError(f"{num_seeds} seeds", hint="at least 1")
        for text in only:
            if not any(self.methods_of(subject, (text,)) for subject in self.subjects):
                raise ConfigurationError(
                    f"{text!r} in only (--only) names nothing of the suite {self.name}",
                    hint=f"{self.SUBJECT}s: {', '.join(subject.name for subject in self.subjects)}; "
                    f"methods: {', '.join(method.name for method in self.methods)}",
                )
        if num_seeds is None:
            return self
        last = max(self.seeds)
        seeds = (*self.seeds, *range(last + 1, last + 1 + num_seeds))[:num_seeds]
        return replace(self, seeds=seeds)  # type: ignore[type-var]

    def methods_of(self, subject: Any, only: Sequence[str] = ()) -> tuple[Any, ...]:
        """The methods that run on one of `subjects`, in the suite's order.

        Args:
            subject (`DatasetSpec | InContextTask`): what they run on.
            only (`Sequence[str]`): `NAME`, `NAME/METHOD` or patterns such as `*/tfidf`; everything without it.
        """
        return tuple(
            method for method in self.methods if not only or any(_matches(text, subject, method) for text in only)
        )

    def check_names(self, nouns: Mapping[str, str], may_be_empty: Sequence[str] = ()) -> None:
        """Refuse a wrong name of the suite, empty lists, what is named twice, and unknown baselines.

        Args:
            nouns (`Mapping[str, str]`): field of a list → what errors call its items.
            may_be_empty (`Sequence[str]`): fields of lists.

        Raises:
            ConfigurationError: the error names the field or the item.
        """
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError(f"the suite is called {self.name!r}", hint="letters, digits, - and _")
        for field, noun in nouns.items():
            names = [getattr(item, "name", item) for item in getattr(self, field)]
            if not names and field not in may_be_empty:
                raise ConfigurationError(f"{field} is empty", hint="name at least one")
            repeated = [name for index, name in enumerate(names) if name in names[:index]]
            if repeated:
                raise ConfigurationError(f"the {noun} {repeated[0]!r} is named twice")
        known = [method.name for method in self.methods]
        for named in (self.baseline, *(getattr(method, "baseline", None) for method in self.methods)):
            if named is not None and named not in known:
                raise ConfigurationError(
                    f"the baseline {named!r} is none of the methods", hint=f"one of {', '.join(known)}"
                )


def _matches(text: str, subject: Any, method: Any) -> bool:
    name, mark, wanted = text.partition("/")
    return fnmatchcase(subject.name, name) and (not mark or fnmatchcase(method.name, wanted))
