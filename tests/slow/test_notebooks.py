"""Notebooks run top to bottom, and are kept without outputs."""

import json
from pathlib import Path

import pytest

from tests.hub.loopback import LoopbackHub

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent.parent / "notebooks").glob("*.ipynb"))
PUBLISHED = {"03_share_on_the_hub": ["me/answers", "me/directions", "me/tiny-gslm"]}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub for the notebook's kernel, where `me` is logged in."""
    with LoopbackHub() as hub:
        values = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "token", "HF_HOME": str(tmp_path / "hf_home")}
        switches = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        for key, value in {**values, **switches}.items():
            monkeypatch.setenv(key, value)
        yield hub


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_notebook_runs(path, hub, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra notebooks is not installed")
    pytest.importorskip("ipykernel", reason="the extra notebooks is not installed")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(path.parent.parent))  # also where the package is not installed

    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    pictures = [
        index
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures and pictures[0] < 5
    assert not hub.errors and hub.repos() == PUBLISHED.get(path.stem, [])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_short_and_stripped(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert len(cells) <= 25
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
