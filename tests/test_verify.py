"""The stage: nothing about a clean phantom, faults all together; nothing private comes out, the cohort stays as is."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import commands
from helpers import rt_records as rt
from helpers.analytic_patient import edit, flip_bit, rewrite, write_patient, write_table
from helpers.html_page import Page, assert_asks_for_nothing, assert_for_everyone

from ricenet.cohort.pseudonyms import case_key, read_key
from ricenet.command.schemas import PhantomConfig, compose
from ricenet.phantom import write_phantom
from ricenet.verify import Limits, verify_cohort

LIMITS = Limits(jobs=2, limit_minutes=5, memory_gb=6)
MARKERS = ("MUSTERMANN", "KRANK", "GEHEIM")  # in ids and folders, in files and headers, in the table's texts


def tree(root: Path) -> dict[str, str]:
    """Every file's hash and time of change."""
    return {
        str(path.relative_to(root)): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def unkeyed(files: dict[str, str]) -> dict[str, str]:
    """Without the key of the pseudonyms, which is made where there is none."""
    return {name: hashed for name, hashed in files.items() if name != "cohort.key"}


def codes(cohort: Path, out: Path, **options) -> dict[str, list[str]]:
    """Findings by severity; `out` is written and the cohort stays as it is."""
    before = tree(cohort)
    given = {"ready": None, "flip": False, "pictures": 0, **options}
    findings = verify_cohort(cohort, out=out, limits=LIMITS, **given)
    assert unkeyed(tree(cohort)) == unkeyed(before)
    report = json.loads((out / "verify.json").read_text())
    assert report["findings"] == [asdict(found) for found in findings]
    found = {severity: [] for severity in report["counts"]}
    for each in findings:
        found[each.severity].append(each.code)
    return found


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parameters = asdict(
        compose("phantom", PhantomConfig, ["out=.", "format=nifti", "patients=6", "spacing_mm=4", "jobs=1"])
    )
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    del parameters["out"]
    write_phantom(out, **parameters)
    return out


@pytest.mark.slow
def test_a_clean_phantom_cohort_has_no_errors_and_no_warnings(phantom: Path, tmp_path: Path) -> None:
    before = tree(phantom)
    found = codes(phantom, tmp_path, flip=True, pictures=2)
    assert (found["error"], found["warning"]) == ([], [])
    assert tree(phantom) == before, "not even a key: it is there"
    report = json.loads((tmp_path / "verify.json").read_text())
    assert len(report["cases"]) == 6
    assert [table["column"] for table in report["label_tables"]] == ["site", "label_source", "prescription_gy"]


def copy_post(root: Path) -> None:
    shutil.copy(root / "MUSTERMANN-1" / "post.nii.gz", root / "MUSTERMANN-2" / "post.nii.gz")


def two_faults(root: Path) -> None:
    flip_bit(root)
    rewrite("rd", lambda voxels: voxels * 100)(root)


COHORT_FAULTS = {
    "none": (lambda root: None, []),
    "unknown label": (edit(0, label="maybe"), ["label.unknown"]),
    "missing file": (edit(1, rd="MUSTERMANN-2/none.nii.gz"), ["path.missing"]),
    "outside": (edit(1, rd="../KRANK.nii.gz"), ["path.outside"]),
    "same patient twice": (copy_post, ["patient.same_image"]),
    "one dose for two patients": (edit(1, rd="MUSTERMANN-1/rd.nii.gz"), ["patient.same_dose"]),
    "post is event": (edit(0, event="MUSTERMANN-1/post.nii.gz"), ["image.same"]),
    "two faults": (two_faults, ["dose.cgy", "file"]),
}


@pytest.fixture
def sound(own: Path) -> Path:
    """The two analytic patients, each with a dose of its own."""
    rewrite("rd", lambda voxels: voxels * 0.99)(own)
    return own


@pytest.mark.parametrize("fault", COHORT_FAULTS)
def test_each_fault_of_a_cohort_gives_exactly_its_codes(sound: Path, tmp_path: Path, fault: str) -> None:
    damage, errors = COHORT_FAULTS[fault]
    damage(sound)
    found = codes(sound, tmp_path / "out")
    assert [re.sub(r"^file\..*", "file", code) for code in found["error"]] == errors
    assert found["warning"] == []
    assert set(found["info"]) == {"table.few_patients"}


def test_a_partial_cohort_is_an_error_until_it_is_meant(sound: Path, tmp_path: Path) -> None:
    """The second case, the only recurrence, has no post-OP MRI, but the image on which its dose was planned."""
    edit(1, post="", planning="MUSTERMANN-2/post.nii.gz")(sound)
    found = codes(sound, tmp_path / "refused")
    assert (found["error"], found["warning"]) == (["modality.missing"], [])
    found = codes(sound, tmp_path / "out", partial=True, pictures=2)
    assert (found["error"], found["warning"]) == ([], [])
    assert sorted(set(found["info"])) == ["modality.missing", "table.few_patients"]
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert report["cases"][1]["facts"]["dose_coverage"] == {"share": 1.0, "exact": False}
    (table,) = [table for table in report["label_tables"] if table["column"] == "has_post"]
    assert [(level["name"], level["counts"]) for level in table["levels"]] == [("given", [0, 1]), ("missing", [1, 0])]
    assert "modality post is missing" in Page(tmp_path / "out" / "verify.html").words["findings"]


def marked_cohort(root: Path) -> Path:
    """Two patients, several faults, and a marker wherever a private text may stand."""
    rows = [write_patient(root, f"MUSTERMANN-{n}", n, label="rice") for n in range(2)]
    for row in rows:
        for role in ("post", "event", "rd"):
            path = root / row[role]
            image = nib.load(path)
            image.header["descrip"] = b"KRANK"
            image.header["intent_name"] = b"KRANK"
            row[role] = f"{row['patient_id']}/KRANK_{role}.nii.gz"
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), root / row[role])
            path.unlink()
    rows[1]["rd"] = rows[0]["rd"]
    rows.append({**rows[0], "patient_id": "MUSTERMANN-9", "event": "MUSTERMANN-9/KRANK.nii.gz"})
    truncated = root / rows[0]["event"]
    truncated.write_bytes(truncated.read_bytes()[:5000])
    write_table(root, rows)
    with (root / "cohort.csv").open() as stream:
        table = list(csv.DictReader(stream))
    more = {"site": "GEHEIM", "scanner_post": "GEHEIM", "post_date": "GEHEIM", "event_date": "1.1.2020"}
    table.append({**table[0], "patient_id": "MUSTERMANN-10", "excluded_because": "Herr GEHEIM"})
    with (root / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*table[0], "excluded_because", *more], restval="")
        writer.writeheader()
        writer.writerows({**row, **more} for row in table)
    (root / "manifest.sha256").write_text(f"{'0' * 64}  {rows[0]['post']}\nGEHEIM\n")
    return root


@pytest.mark.slow
def test_nothing_private_comes_out_and_an_error_is_exit_code_3(tmp_path: Path) -> None:
    cohort = marked_cohort(tmp_path / "MUSTERMANN_cohort")
    before = tree(cohort)
    done = commands.run(
        [sys.executable, "-m", "ricenet.verify", f"cohort={cohort}", f"out={tmp_path / 'out'}", "jobs=1"]
    )
    assert done.returncode == 3, done.stderr
    assert unkeyed(tree(cohort)) == before
    texts = {path.name: path.read_text("utf-8") for path in (tmp_path / "out").iterdir()}
    assert set(texts) == {"verify.json", "verify.html"}
    for where, text in {**texts, "stdout": done.stdout, "stderr": done.stderr}.items():
        assert not [marker for marker in (*MARKERS, "2020", str(tmp_path)) if marker in text], where
    report = json.loads(texts["verify.json"])
    assert {found["code"] for found in report["findings"]} >= {
        "file.damaged", "manifest.changed", "manifest.damaged", "manifest.unlisted", "path.missing",
        "patient.same_dose", "table.day",
    }  # fmt: skip
    assert report["excluded"] == {"in words (see cohort.csv)": 1}
    assert "errors in case c" in done.stderr
    # Every finding stands on the page, which asks nobody for anything and shows what can be shown.
    page = texts["verify.html"]
    assert all(page.count(found["code"]) >= 2 for found in report["findings"])
    assert re.findall(r'(?:src|href)="(?!#|data:image/)', page) == []
    assert page.count('<img src="data:image/jpeg') == 3


@pytest.mark.slow
def test_a_case_that_takes_too_much_is_one_finding_and_the_others_are_examined(sound: Path, tmp_path: Path) -> None:
    huge = np.zeros((645, 645, 645), np.uint8)
    huge[0] = 1
    nib.save(nib.Nifti1Image(huge, np.diag([0.3, 0.3, 0.3, 1])), sound / "MUSTERMANN-1" / "post.nii.gz")
    findings = verify_cohort(sound, None, tmp_path, Limits(2, 5, 1), flip=False, pictures=0)
    (found,) = [found for found in findings if found.severity == "error"]
    assert found.code == "worker.memory"
    assert "(row 2 of cohort.csv)" in found.case
    report = json.loads((tmp_path / "verify.json").read_text())
    assert [len(case["sha256"]) for case in report["cases"]] == [0, 3]


def test_a_cohort_that_ingest_made_shows_what_it_did_with_every_rt_object(sound: Path, tmp_path: Path) -> None:
    with (sound / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    refused = {**rows[0], "patient_id": "MUSTERMANN-3", "excluded_because": "ingest: treatment.ambiguous"}
    with (sound / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(refused), restval="")
        writer.writeheader()
        writer.writerows([*rows, refused])
    key = read_key(sound / "cohort.key")
    came_in, left_alone, not_in = (case_key(key, f"MUSTERMANN-{number}", "") for number in (1, 2, 3))
    assert {row["patient_id"] for row in rows} >= {"MUSTERMANN-1", "MUSTERMANN-2"}
    rt.write_record(sound, came_in)
    rt.write_record(sound, not_in, refused=True)
    found = codes(sound, tmp_path / "out")
    assert (found["error"], found["warning"]) == ([], ["dose.flagged", "dose.left_out"])
    page = Page(tmp_path / "out" / "verify.html")
    assert_asks_for_nothing(page)
    assert_for_everyone(page)
    told = page.words["doses"]
    assert f"Case {not_in} (row 4 of cohort.csv): refused by ingest ambiguous: dose" in told
    undecided = "undecided the case was refused before this was decided"
    assert told.index(f"{rt.UNDECIDED} {undecided}") < told.index(f"{rt.USED} used counts 30 times")
    assert f"{rt.LEFT_OUT} left out planned 20 days after the event" in told
    assert f"{rt.UNREADABLE} unreadable DoseUnits is RELATIVE" in told
    assert left_alone not in told
    assert not [marker for marker in MARKERS if marker in page.source]
    deliveries = json.loads((tmp_path / "out" / "verify.json").read_text())["deliveries"]
    assert [each["case_key"] for each in deliveries] == [not_in, came_in]


def test_out_in_the_cohort_folder_is_wrong_usage(own: Path) -> None:
    done = commands.run([sys.executable, "-m", "ricenet.verify", f"cohort={own}", f"out={own}/out"])
    assert (done.returncode, (own / "out").exists()) == (2, False)
    assert "choose another" in done.stderr


def header(shape: tuple[int, int, int]) -> bytes:
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4))
    image.set_sform(np.eye(4), code=1)
    content = bytearray(image.to_bytes()[:352])
    content[42:48] = np.array(shape, np.int16).tobytes()
    return bytes(content)


def packed(content: bytes) -> bytes:
    squeeze = zlib.compressobj(6, wbits=31)
    return squeeze.compress(content) + squeeze.flush()


# VmHWM, for ru_maxrss would begin with what the process that starts this one holds.
READ = """
import sys, time
from pathlib import Path
from ricenet.errors import InvalidInput
from ricenet.images.volume import read_volume
start = time.perf_counter()
try:
    read_volume(Path(sys.argv[1]))
except InvalidInput as error:
    seconds = time.perf_counter() - start
    (peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(error.code, seconds, int(peak.split()[1]) / 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads its memory from /proc")
@pytest.mark.parametrize("hostile", ["30,000^3", "4 GB of zeros behind a small header", "zeros as announced"])
def test_hostile_files_are_refused_in_5_s_and_1_gb(tmp_path: Path, hostile: str) -> None:
    zeros = packed(bytes(2**26))
    content = {
        "30,000^3": packed(header((30_000,) * 3) + bytes(4000)),
        "4 GB of zeros behind a small header": packed(header((200, 200, 200))) + 64 * zeros,  # members of one stream
        "zeros as announced": packed(header((1024, 1024, 1024))) + 64 * zeros,
    }[hostile]
    (tmp_path / "x.nii.gz").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "x.nii.gz")], capture_output=True, text=True, check=True
    )
    code, seconds, gigabytes = done.stdout.split()
    assert code in ("image.size", "file.size")
    assert float(seconds) < 5
    assert float(gigabytes) < 1
