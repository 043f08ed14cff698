"""The two ends of the dependency ranges are the ones that CI runs."""

from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.requirements import Requirement

NAMES = ("lower", "upper")


def canonical(name):
    return name.lower().replace("_", "-")


@pytest.fixture(scope="module")
def requirements(project_root):
    setup = ConfigParser(interpolation=None)
    setup.read(project_root / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].split("\n")
    for extra in ("quickstart", "test", "demo", "browser", "notebooks"):
        lines += setup["options.extras_require"][extra].split("\n")
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonical(each.name): each.specifier for each in found}


@pytest.fixture(scope="module")
def pins(project_root):
    def read(end):
        text = (project_root / "tests" / "packaging" / f"constraints-{end}.txt").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {canonical(name): pin for name, pin in (line.split("==") for line in lines)}

    return {end: read(end) for end in NAMES}


@pytest.mark.parametrize("end", NAMES)
def test_every_dependency_is_pinned_within_its_range(requirements, pins, end):
    assert requirements.keys() <= pins[end].keys()
    for name, allowed in requirements.items():
        assert allowed.contains(pins[end][name]), f"{name} {pins[end][name]} is outside {allowed}"


def test_lower_pins_are_the_lower_bounds(requirements, pins):
    from packaging.version import Version

    for name, allowed in requirements.items():
        lowest = [Version(each.version) for each in allowed if each.operator in (">=", "==")]
        assert [Version(pins["lower"][name])] == lowest, name


def test_every_range_ends_somewhere(requirements):
    for name, allowed in requirements.items():
        assert any(each.operator in ("<", "==") for each in allowed), f"{name} has no upper bound"


def test_installed_versions_are_within_the_ranges(requirements):
    for name, allowed in requirements.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # an extra that is not installed
        assert allowed.contains(installed, prereleases=True), f"{name} {installed} is outside {allowed}"
