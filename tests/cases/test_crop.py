"""The place of a lesion: what each set may know of it; and the cube around it, cut out and pasted back."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ricenet.cases.case_record import CaseRecord, Crop, LesionPlace
from ricenet.cases.crop import MIN_CONTRAST, Window, choose, find_places, place_of, random_place
from ricenet.cohort.folds import read_folds
from ricenet.phantoms import anatomy
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.scanner import with_noise

SPACING_MM = 2.0
X, Y, Z = np.indices((30, 32, 28))
BRAIN = (X - 14) ** 2 / 13**2 + (Y - 15) ** 2 / 14**2 + (Z - 13) ** 2 / 12**2 < 1
NEW, OLD = (9.0, 17.0, 15.0), (20.0, 12.0, 11.0)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return (X - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (Z - centre[2]) ** 2 < radius**2


def images(seed: int = 0, new: float = 4.0, old: float = 6.0) -> dict[str, np.ndarray]:
    """Two noisy MRIs; one ball enhances in both and is the brighter one, another in the event's alone."""
    rng = np.random.default_rng(seed)
    anatomy = ndimage.gaussian_filter(rng.normal(size=BRAIN.shape), 1) * 3
    post, event = (
        anatomy + rng.normal(scale=0.3, size=BRAIN.shape) + old * ball(OLD, 3.5) + more
        for more in (0, new * ball(NEW, 3.2))
    )
    return {"post": np.where(BRAIN, post, 0).astype(np.float16), "event": np.where(BRAIN, event, 0).astype(np.float16)}


def test_the_difference_finds_what_is_new_and_the_event_alone_what_is_brightest() -> None:
    places = find_places(images(), BRAIN, SPACING_MM)
    assert {name: place.source for name, place in places.items()} == {"difference": "difference", "event": "event"}
    assert places["difference"].voxel == pytest.approx(NEW, abs=0.5)
    assert places["event"].voxel == pytest.approx(OLD, abs=0.5)
    assert all(place.contrast > MIN_CONTRAST[name] for name, place in places.items())


def test_a_mask_is_taken_first_at_the_middle_of_its_largest_part_in_the_brain() -> None:
    mask = ball((5.0, 15.0, 13.0), 2.5) | ball((22.0, 18.0, 9.0), 3.2)
    places = find_places(images(), BRAIN, SPACING_MM, mask)
    assert list(places) == ["mask", "difference", "event"]
    assert places["mask"] == LesionPlace(source="mask", voxel=places["mask"].voxel)
    assert places["mask"].voxel == pytest.approx((22, 18, 9), abs=0.3)
    assert choose(places, ["post", "event", "rd"]) == choose(places, ["event"]) == places["mask"]
    outside = find_places(images(), BRAIN, SPACING_MM, ~BRAIN)
    assert list(outside) == ["difference", "event"], "a mask beside the brain says nothing"


def test_a_set_knows_what_its_images_show() -> None:
    places = find_places(images(), BRAIN, SPACING_MM)
    assert choose(places, ["event", "rd"]) == places["event"]
    assert choose(places, ["post", "event"]) == choose(places, ["post", "event", "rd"]) == places["difference"]
    assert list(find_places({"event": images()["event"]}, BRAIN, SPACING_MM)) == ["event"]
    nothing = find_places({"post": images()["post"]}, BRAIN, SPACING_MM)
    assert nothing["event"].source == "none", "no image to look in"


def test_where_nothing_enhances_it_is_the_middle_of_the_brain() -> None:
    for seed in range(3):
        places = find_places(images(seed, new=0, old=0), BRAIN, SPACING_MM)
        for place in places.values():
            assert place.source == "none"
            assert place.voxel == pytest.approx(np.argwhere(BRAIN).mean(axis=0), abs=1e-3)
    same = find_places({"post": images()["post"], "event": images()["post"]}, BRAIN, SPACING_MM)
    assert same["difference"] == LesionPlace(source="none", voxel=same["difference"].voxel, contrast=None)


@pytest.mark.parametrize(
    ("centre", "size_mm", "spacing_mm", "start", "edge"),
    [
        (10.0, 96, 1.0, -37, 96),  # of an even cube the middle lies between voxels 10 and 11
        (9.6, 96, 1.0, -38, 96),
        (13.5, 96, 7.0, 7, 14),  # the middle exactly
        (13.49, 96, 7.0, 7, 14),
        (13.99, 96, 7.0, 7, 14),
        (14.01, 96, 7.0, 8, 14),
        (0.5, 1.0, 7.0, 0, 2),  # at least two voxels
    ],
)
def test_a_window_has_its_middle_nearest_to_the_place(
    centre: float, size_mm: float, spacing_mm: float, start: int, edge: int
) -> None:
    crop = Crop(at="lesion", size_mm=size_mm)
    window = Window.around(LesionPlace(source="event", voxel=(centre,) * 3), crop, spacing_mm)
    assert window == Window((start,) * 3, (edge,) * 3)
    assert abs(start + (edge - 1) / 2 - centre) <= 0.5


@pytest.mark.parametrize("start", [(2, 3, 1), (-2, -1, 4), (3, -4, 2), (30, 0, 0), (-9, 0, 0)])
def test_what_lies_beyond_the_volume_is_0_and_what_was_cut_is_pasted_back(start: tuple[int, int, int]) -> None:
    volume = np.arange(1.0, 2 * 8 * 7 * 6 + 1).reshape(2, 8, 7, 6)
    window = Window(start, (4, 4, 4))
    cube = window.cut(volume)
    padded = np.pad(volume, ((0, 0), (40, 40), (40, 40), (40, 40)))
    x, y, z = (slice(40 + first, 44 + first) for first in start)
    np.testing.assert_array_equal(cube, padded[:, x, y, z])
    pasted = window.paste(cube, (8, 7, 6))
    inside = window.paste(np.ones((4, 4, 4), dtype=bool), (8, 7, 6))
    np.testing.assert_array_equal(pasted, volume * inside)
    assert inside.sum() == np.count_nonzero(cube[0])


def test_a_random_place_lies_in_the_brain_and_is_fixed_for_the_case() -> None:
    places = [random_place(f"c{number}", BRAIN) for number in range(300)]
    assert places == [random_place(f"c{number}", BRAIN) for number in range(300)]
    voxels = np.array([place.voxel for place in places])
    assert all(BRAIN[tuple(voxel.astype(int))] for voxel in voxels)
    np.testing.assert_allclose(voxels.mean(axis=0), np.argwhere(BRAIN).mean(axis=0), atol=1.2)
    np.testing.assert_allclose(voxels.std(axis=0), np.argwhere(BRAIN).std(axis=0), rtol=0.15)


def test_the_place_of_a_case_folder_is_that_of_its_record_or_is_found_in_its_images(
    phantom_cases: Path, tmp_path: Path
) -> None:
    cases = shutil.copytree(phantom_cases, tmp_path / "cases")
    case = read_folds(cases).cases[0]
    path = cases / case.folder / "case.json"
    record = CaseRecord.read(path)
    if record.lesion:
        record = record.model_copy(update={"lesion": {}})
    record.write(path)
    place = place_of(cases, case, ["post", "event"], "lesion")
    volume = np.load(cases / case.folder / "volume.npy")
    brain = np.load(cases / case.folder / "brain.npy")
    places = find_places({"post": volume[0], "event": volume[1]}, brain, record.spacing_mm)
    assert place == places["difference"]
    assert place_of(cases, case, ["event"], "lesion") == places["event"]
    assert place_of(cases, case, ["rd"], "lesion") == places["difference"], "crop.everywhere"
    assert place_of(cases, case, ["rd"], "random") == random_place(case.case_key, brain)
    mask = np.zeros(brain.shape, dtype=bool)
    mask[tuple(np.argwhere(brain)[5])] = True
    np.savez_compressed(path.with_name("structures.npz"), lesion=mask)
    assert place_of(cases, case, ["event"], "lesion").voxel == tuple(np.argwhere(brain)[5])
    written = {"event": LesionPlace(source="event", voxel=(1.0, 2.0, 3.5), contrast=3.0)}
    record.model_copy(update={"lesion": written}).write(path)
    assert place_of(cases, case, ["event"], "lesion") == written["event"]
    assert place_of(cases, case, ["event"], "lesion").voxel == (1.0, 2.0, 3.5)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", [41, 42, 43])
def test_the_lesion_of_a_phantom_is_found_and_none_where_none_was_drawn(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (draw,) = draw_cohort(20, seed)[:1]
    places_of = []
    for with_lesion in (True, False):
        if not with_lesion:
            monkeypatch.setattr(anatomy, "_with_lesion", lambda image, *_: image)
        drawn = anatomy.draw_patient(draw.quantities, draw.seed, anatomy.Grid((40,) * 3, 5.0))
        rng = np.random.default_rng(seed)
        scans = {role: with_noise(rng, getattr(drawn, role), 5.0) for role in ("post", "event")}
        places_of.append(find_places(scans, drawn.brain, 5.0))
    with_one, without = places_of
    truth = np.argwhere(drawn.lesion).mean(axis=0)
    for name, place in with_one.items():
        assert place.source == name
        assert 5.0 * np.linalg.norm(np.array(place.voxel) - truth) < 12
        assert place.contrast > 1.15 * MIN_CONTRAST[name]
        assert without[name].contrast < place.contrast / 1.4
    assert without["difference"].source == "none"
