"""A manifest that sha256sum wrote: every change is seen, also one that no reader would notice."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ricenet.checks.manifest import check_manifest
from ricenet.cohort.table import inspect_cohort
from ricenet.command.atomic import file_hash
from ricenet.errors import InvalidInput
from ricenet.images.volume import read_volume


def files(root: Path):
    cases, _ = inspect_cohort(root)
    return {path: (case, role, file_hash(path)) for case in cases for role, path in case.images.items()}


def write(root: Path) -> None:
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.nii.gz"))
    done = subprocess.run(["sha256sum", *paths], cwd=root, capture_output=True, text=True, check=True)
    (root / "manifest.sha256").write_text(done.stdout)


def codes(root: Path) -> list[tuple[str, str, str]]:
    return [(found.code, found.channel, found.severity) for found in check_manifest(root, files(root))]


def test_no_manifest_and_an_intact_one_say_nothing(own: Path) -> None:
    assert codes(own) == []
    write(own)
    assert codes(own) == []
    star = (own / "manifest.sha256").read_text().replace("  ", " *./")  # sha256sum -b, from find
    (own / "manifest.sha256").write_text(star)
    assert codes(own) == []


def test_changed_missing_unlisted_and_damaged_lines(own: Path) -> None:
    write(own)
    lines = (own / "manifest.sha256").read_text().splitlines()
    (own / "notes.txt").write_text("x")
    lines = [*lines[1:], f"{hashlib.sha256(b'y').hexdigest()}  notes.txt", f"{'0' * 64}  gone.txt", "SECRET", ""]
    lines.append(f"{'0' * 64}  ../outside.txt")
    (own / "manifest.sha256").write_text("\n".join(lines) + "\n")
    (own / "MUSTERMANN-2" / "rd.nii.gz").write_bytes(b"other")
    found = check_manifest(own, files(own))
    assert sorted((each.code, each.channel) for each in found) == [
        ("manifest.changed", ""),
        ("manifest.changed", "rd"),
        ("manifest.damaged", ""),
        ("manifest.damaged", ""),
        ("manifest.damaged", ""),
        ("manifest.missing", ""),
        ("manifest.unlisted", "event"),
    ]
    text = " ".join(map(str, found))
    assert not any(word in text for word in ("SECRET", "MUSTERMANN", "notes", "gone", "outside"))


@pytest.fixture
def flips(own: Path):
    """200 single-bit flips over all images: (path, intact bytes, damaged bytes)."""
    write(own)
    rng, paths = np.random.default_rng(0), sorted(own.rglob("*.nii.gz"))
    found = []
    for number in range(200):
        path = paths[number % len(paths)]
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        found.append((path, path.read_bytes(), bytes(content)))
    return found


def test_200_flipped_bits_are_200_findings(own: Path, flips) -> None:
    listed = files(own)
    for path, intact, damaged in flips:
        path.write_bytes(damaged)
        case, role, _ = listed[path]
        found = check_manifest(own, listed | {path: (case, role, file_hash(path))})
        assert [(each.code, each.case, each.channel) for each in found] == [("manifest.changed", case.name, role)]
        path.write_bytes(intact)


def test_without_a_manifest_every_flip_that_changes_the_image_is_found(flips) -> None:
    codes = []
    for path, intact, damaged in flips:
        before = read_volume(path)
        path.write_bytes(damaged)
        try:
            after = read_volume(path)
        except InvalidInput as error:
            codes.append(error.code)
        else:
            np.testing.assert_array_equal(after.voxels, before.voxels)
            np.testing.assert_array_equal(after.world_from_voxel, before.world_from_voxel)
        path.write_bytes(intact)
    assert len(codes) >= 195, "the rest lies in gzip's own name, time and system"
    assert {code.split(".")[0] for code in codes} <= {"file", "image", "affine"}
