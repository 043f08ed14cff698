"""Data sets as declarations: where they lie below the data root, what is read of them, how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ConfigurationError
from .declaration import check_name, read_record, read_yaml

__all__ = ["PARTS", "AddedRows", "DatasetSpec", "Protocol", "Synthetic", "ready_datasets"]

PARTS = ("train", "validation", "test")
"""Of a data set, in the order of its rows."""


@dataclass(frozen=True)
class Protocol:
    """How rows are shared out into folds.

    Attributes:
        kind (`str`): `"official"`: the parts as they are; `"column"`: the test rows are those with one of `values` in
            `column`; `"held-out"`: a fold for each list of groups in `values`, which are its test; `"grouped"`: k
            folds over all rows, a group in one fold only; `"stratified"`: k folds over all rows, labels shared out.
        group (`str`, defaults to `"speaker"`): column of the groups; a row without one is a group of its own.
        folds (`int`, defaults to 5): k.
        column (`str`, *optional*): of `"column"`.
        values (`tuple[tuple[str, ...], ...]`): groups of each fold's test; for `"column"` one list of values.
        train (`tuple[str, ...]`, defaults to `("train",)`): parts that train, of `"official"`.
        test (`tuple[str, ...]`, defaults to `("test",)`): parts that are measured, of `"official"`.
    """

    kind: Literal["official", "column", "held-out", "grouped", "stratified"] = "official"
    group: str = "speaker"
    folds: int = 5
    column: str | None = None
    values: tuple[tuple[str, ...], ...] = ()
    train: tuple[str, ...] = ("train",)
    test: tuple[str, ...] = ("test",)

    def __post_init__(self) -> None:
        if self.kind in ("grouped", "stratified") and self.folds < 2:
            raise ConfigurationError(f"folds is {self.folds}", hint="at least 2")
        if self.kind in ("column", "held-out") and not self.values:
            raise ConfigurationError(f"the protocol {self.kind!r} lacks values", hint="lists of values that test")
        if self.kind == "column" and (self.column is None or len(self.values) != 1):
            raise ConfigurationError("the protocol 'column' needs column and one list of values")
        unknown = sorted({*self.train, *self.test} - set(PARTS))
        if unknown:
            raise ConfigurationError(f"there is no part {unknown[0]!r}", hint=f"one of {', '.join(PARTS)}")
        if set(self.train) & set(self.test):
            raise ConfigurationError(f"the parts {', '.join(self.train)} both train and test")

    @property
    def num_folds(self) -> int:
        """How many folds a data set has, whatever its rows are."""
        if self.kind in ("grouped", "stratified"):
            return self.folds
        return len(self.values) if self.kind == "held-out" else 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that sharing out needs, beside those of every data set."""
        if self.kind == "column":
            return (self.column or "",)
        needs_group = self.kind in ("held-out", "grouped") and self.group not in ("speaker", "label", "item")
        return (self.group,) if needs_group else ()


@dataclass(frozen=True)
class AddedRows:
    """Rows of a further file of the folder, all with one label.

    Attributes:
        file (`str`): its name.
        label (`str`): their label.
        min_peak (`float`, defaults to 0.0): recordings whose highest sample is below are left out.
    """

    file: str
    label: str
    min_peak: float = 0.0


@dataclass(frozen=True)
class Synthetic:
    """Made-up rows of random units in which each label is heard as two pairs of its own.

    Attributes:
        rows (`int`, defaults to 120): how many.
        labels (`int`, defaults to 3): classes.
        speakers (`int`, defaults to 10): names, one after the other.
        units (`int`, defaults to 20): units are 0 to this number, exclusive.
        seed (`int`, defaults to 0): of the draw.
    """

    rows: int = 120
    labels: int = 3
    speakers: int = 10
    units: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.labels < 2 or self.units < 2 * self.labels or self.rows < 2 * self.labels or self.speakers < 2:
            raise ConfigurationError(
                f"{self.rows} rows of {self.labels} labels, {self.speakers} speakers and {self.units} units",
                hint="at least 2 labels and speakers, and twice as many rows and units as labels",
            )


@dataclass(frozen=True)
class DatasetSpec:
    """One labelled data set as an experiment reads it.

    Attributes:
        name (`str`): how suites and tables call it.
        title (`str`, *optional*): what the classes are, for readers.
        folder (`str`, *optional*): below the data root.
        synthetic (`Synthetic`, *optional*): made-up rows in the place of a folder.
        label (`tuple[str, ...]`, defaults to `("label",)`): columns of the label.
        label_value (`str`, *optional*): one label for all rows of the folder, in the place of columns.
        missing_label (`str`, *optional*): the label of rows that have none; they are an error without it.
        speaker (`str`, *optional*): column of the speaker; `speaker` by default, `""` for none.
        add (`tuple[AddedRows, ...]`): rows of further files.
        seconds (`float`, *optional*): every recording is cut to this length, or padded with zeros.
        distinct (`tuple[str, ...]`): parts whose repeated rows (same units or recording, same label) are left out.
        protocol (`Protocol`): how rows are shared out.
        metric (`str`, defaults to `"accuracy"`): what the table shows first: `"accuracy"`, `"macro_f1"` or
            `"equal_error_rate"`, which two classes have.
        task (`str`, *optional*): a ready-made task with label sequences; made of the labels by default.
        base (`str`, defaults to `"default"`): name of the base whose units these are, or which makes them.
        note (`str`, *optional*): what a reader must know to judge the numbers.

    Raises:
        ConfigurationError: folder and synthetic rows, or neither.
    """

    name: str
    title: str = ""
    folder: str | None = None
    synthetic: Synthetic | None = None
    label: tuple[str, ...] = ("label",)
    label_value: str | None = None
    missing_label: str | None = None
    speaker: str | None = None
    add: tuple[AddedRows, ...] = ()
    seconds: float | None = None
    distinct: tuple[str, ...] = ()
    protocol: Protocol = Protocol()
    metric: Literal["accuracy", "macro_f1", "equal_error_rate"] = "accuracy"
    task: str | None = None
    base: str = "default"
    note: str = ""

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.synthetic is None):
            raise ConfigurationError(f"data set {self.name!r}", hint="give either folder or synthetic")
        check_name("a data set", self.name, "/*?[]\\ ")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigurationError(f"seconds is {self.seconds}", hint="above 0")
        unknown = sorted(set(self.distinct) - set(PARTS))
        if unknown:
            raise ConfigurationError(f"distinct names the part {unknown[0]!r}", hint=f"one of {', '.join(PARTS)}")

    def path(self, data_root: Path) -> Path | None:
        """The folder below a data root; `None` for made-up rows."""
        return None if self.folder is None else data_root / self.folder

    def is_there(self, data_root: Path | None) -> bool:
        """Whether the rows can be read."""
        return self.folder is None or (data_root is not None and (data_root / self.folder).is_dir())


@cache
def ready_datasets() -> Mapping[str, DatasetSpec]:
    """The data sets that suites may call by name, in the order of `datasets.yaml`."""
    path = Path(__file__).with_name("datasets.yaml")
    return {spec.name: spec for spec in read_datasets(read_yaml(path), path.name)}


def read_datasets(values: Any, place: str) -> tuple[DatasetSpec, ...]:
    """Declarations of data sets.

    Args:
        values (`list`): mappings.
        place (`str`): how errors call the list.

    Raises:
        ConfigurationError: no list, a wrong declaration, or a name twice.
    """
    if not isinstance(values, list):
        raise ConfigurationError(f"{place} is no list", hint="write a list of data sets")
    specs = tuple(read_record(DatasetSpec, value, f"{place}[{index}]") for index, value in enumerate(values))
    names = [spec.name for spec in specs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigurationError(f"{place} names the data set {repeated[0]!r} twice")
    return specs
