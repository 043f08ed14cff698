import sys

import numpy as np
import pytest

from speechprompt_hf.explanation import (
    Phone,
    RecordingExplanation,
    draw_explanation,
    draw_labels,
    explain_labels,
    save_figure,
)

PNG = b"\x89PNG\r\n\x1a\n"


def explanation(num_units=6, label="yes", **fields):
    ends = np.linspace(0.1, 0.6, num_units)
    values = {
        "label": label,
        "probabilities": {"no": 0.7, label: 0.3},
        "units": np.arange(num_units) * 7,
        "starts": np.concatenate([[0.0], ends[:-1]])[:num_units],
        "ends": ends,
        "saliency": np.linspace(-1, 2, num_units).astype(np.float32),
        "method": "shapley",
    }
    return RecordingExplanation(**{**values, **fields})


def test_bars_lie_under_the_waveform_where_the_units_were_heard():
    wave = np.sin(np.arange(9600) / 50)
    figure = draw_explanation(explanation(), wave, 16000)
    above, below = figure.axes
    bars = below.containers[0]
    assert [bar.get_height() for bar in bars] == pytest.approx(np.linspace(-1, 2, 6))
    assert [bar.get_x() for bar in bars] == pytest.approx(explanation().starts)
    assert [bar.get_width() for bar in bars] == pytest.approx(explanation().ends - explanation().starts)
    assert above.get_xlim() == below.get_xlim() == (0, 0.6)
    assert above.get_title() == "yes: 0.300 (most probable: no, 0.700)"
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_phones_are_written():
    phones = [Phone("j", 0.0, 0.2), Phone("E", 0.2, 0.4), Phone("$x_{", 0.4, 0.6)]
    above = draw_explanation(explanation(), np.zeros(9600), 16000, phones).axes[0]
    assert [text.get_text() for text in above.texts] == ["j", "E", "$x_{"]


@pytest.mark.parametrize("num_units", [1, 300])
def test_any_number_of_units_and_any_label_is_drawn(num_units, tmp_path):
    figure = draw_explanation(explanation(num_units, label="$a_{b"), np.zeros(16000 * 60), 16000)
    save_figure(figure, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)


def test_nothing_salient_and_marks_of_no_duration_are_drawn(tmp_path):
    none = explanation(saliency=np.zeros(6, np.float32), starts=np.full(6, 0.3), ends=np.full(6, 0.3))
    save_figure(draw_explanation(none, np.zeros(10), 16000), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000


def test_files_are_whole_and_equal(tmp_path):
    for name in ("a", "b"):
        save_figure(draw_explanation(explanation(), np.zeros(9600), 16000), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    broken = draw_explanation(explanation(), np.zeros(9600), 16000)
    broken.savefig = lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(OSError, match="disk full"):
        save_figure(broken, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(("options", "panels"), [({"readout": "pooled"}, 3), ({"readout": "hidden"}, 1)])
def test_labels_are_drawn_with_what_the_adapter_has(unit_model, options, panels, tmp_path):
    of_labels = explain_labels(unit_model(**options))
    figure = draw_labels(of_labels)
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == panels
    for axes in pictures:
        assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    heard, columns = of_labels.heard, [int(text.get_text()) for text in pictures[0].get_xticklabels()]
    assert np.allclose(pictures[0].images[0].get_array(), heard[:, columns])
    assert set(heard.argmax(1).tolist()) <= set(columns)
    save_figure(figure, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").read_bytes().startswith(PNG)
