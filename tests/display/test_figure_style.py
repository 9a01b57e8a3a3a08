"""Figures on disk: the same bytes for the same figure, both formats, nothing else left behind."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from ricenet.display import figure_style


def drawn(height: float = 1.0) -> Figure:
    figure = Figure(figsize=(2, height))
    figure.subplots().plot([0, 1], [0, 1], label="a line")
    return figure


def test_a_figure_is_saved_as_drawing_and_as_image(tmp_path: Path) -> None:
    figure_style.save(drawn(), tmp_path / "one")
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "one.svg"}
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (2 * figure_style.DPI, figure_style.DPI)
        assert "Software" not in image.info
    assert "<dc:date>" not in (tmp_path / "one.svg").read_text()


def test_the_same_figure_has_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, height in (("one", 1.0), ("two", 1.0), ("other", 1.5)):
        figure_style.save(drawn(height), tmp_path / name)
    for suffix in (".png", ".svg"):
        one, two, other = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two", "other"))
        assert one == two != other


def test_the_style_does_not_leak(tmp_path: Path) -> None:
    before = mpl.rcParams["svg.hashsalt"]
    figure_style.save(drawn(), tmp_path / "one")
    assert mpl.rcParams["svg.hashsalt"] == before


def test_every_isodose_looks_different() -> None:
    """Lines over an MRI are told apart by colour and by dashes, so that grey print shows them too."""
    looks = figure_style.DOSE_CONTOURS_GY.values()
    assert len({look["color"] for look in looks}) == len({look["linestyle"] for look in looks}) == len(looks)
    assert sorted(figure_style.DOSE_CONTOURS_GY) == list(figure_style.DOSE_CONTOURS_GY)
