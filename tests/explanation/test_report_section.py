"""The view of an explained grid; its numbers on the page are tested through the report."""

import json
from pathlib import Path

import pytest

from ricenet.errors import InvalidInput
from ricenet.explanation.map_record import VERSION
from ricenet.explanation.report_section import OcclusionView, occlusion_view


def test_nothing_explained_gives_an_empty_view(tmp_path: Path) -> None:
    assert occlusion_view(tmp_path, 24) == OcclusionView([], [], [], [])


def test_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "grid" / "explanation").mkdir(parents=True)
    path = tmp_path / "grid" / "explanation" / "summary.json"
    path.write_text(json.dumps({"version": VERSION - 1, "sets": {}}))
    with pytest.raises(InvalidInput, match=r"explain run=outputs/grid again"):
        occlusion_view(path.parent, 24)
