"""Check a cohort without changing it: cohort.csv and its images in, verify.json and verify.html out.

Run: python -m ricenet.verify cohort=DIR. Every case is read in a process of its own and every finding is reported, none
stops the others. Exit code 3 where there is an error, 0 otherwise. The one thing made in the cohort folder is the key
of the pseudonyms, where there is none yet: every later stage has to call the cases the same.
"""

import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ricenet import LABELS, __version__
from ricenet.cohort.channels import further_channels, log_further, log_lacking
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import Case, inspect_cohort
from ricenet.command.atomic import replace_file
from ricenet.command.processes import Ended, Limits, run_each
from ricenet.command.schemas import VerifyConfig
from ricenet.command.stage import stage
from ricenet.display.page import Picture, jpeg, render
from ricenet.errors import Finding, InvalidInput, WrongUsage

if TYPE_CHECKING:
    from ricenet.checks.case_checks import Examined
    from ricenet.checks.verify_record import DeliveredCase, LabelTable, VerifyRecord
    from ricenet.images.dose_limits import DoseLimits

log = logging.getLogger(__name__)
SEVERITIES = ("error", "warning", "info")
SECTIONS = (
    ("summary", "Summary"),
    ("findings", "Findings"),
    ("cases", "Cases"),
    ("doses", "Doses"),
    ("labels", "Labels"),
    ("pictures", "Pictures"),
    ("provenance", "Provenance"),
)
ExamineTask = tuple[Case, Path | None, bool, "DoseLimits | None"]  # arguments of case_checks.examine
PACKAGES = ("antspyx", "nibabel", "numpy", "scipy")


@stage("verify", VerifyConfig, private=True)
def main(cfg: VerifyConfig) -> None:
    """Turn the config into arguments; an error among the findings is exit code 3."""
    for key, lowest in {"jobs": 1, "limit_minutes": 0.01, "memory_gb": 1, "pictures": 0}.items():
        if getattr(cfg, key) < lowest:
            raise WrongUsage(f"{key} should be at least {lowest}, got {getattr(cfg, key)}")
    cohort, out = Path(cfg.cohort), Path(cfg.out)
    if out.resolve().is_relative_to(cohort.resolve()):
        raise WrongUsage("out= must be outside the cohort folder, which is never changed; choose another")
    from ricenet.images.dose_limits import limits_from

    doses = limits_from(cfg.dose_limits)
    limits = Limits(cfg.jobs, cfg.limit_minutes, cfg.memory_gb)
    cases = None if cfg.cases is None else Path(cfg.cases)
    findings = verify_cohort(
        cohort,
        cases,
        out,
        limits,
        flip=cfg.flip,
        pictures=cfg.pictures,
        further=further_channels(),
        partial=cfg.partial,
        doses=doses,
    )
    for severity, code, count in count_codes(findings):
        print(f"{severity} {code}: {count}")
    print(f"{len(findings)} findings")
    print("written: verify.json and verify.html in the out folder")
    faulty = {finding.case for finding in findings if finding.severity == "error"}
    if faulty:
        named = "; ".join(sorted(faulty))
        raise InvalidInput(f"errors in {named}", "verify.html in the out folder lists them all", code="cohort.findings")


def verify_cohort(
    cohort: Path,
    ready: Path | None,
    out: Path,
    limits: Limits,
    *,
    flip: bool,
    pictures: int,
    further: Sequence[str] = (),
    partial: bool = False,
    doses: "DoseLimits | None" = None,
) -> list[Finding]:
    """Examine every case of `cohort` and write `out`/verify.json and `out`/verify.html.

    Args:
        cohort: folder with cohort.csv; read only.
        ready: the cases folder that preprocess made of it, or None.
        out: made where it is not there.
        limits: what the run may take.
        flip: compare left and right of post and event.
        pictures: at most so many on the page.
        further: channels besides post, event and rd that the cohort may have.
        partial: whether some cases may lack a channel that others have: then told, no error.
        doses: limits of a treatment's dose; None: the default preset.

    Returns:
        Every finding, errors first.

    Raises:
        InvalidInput: there is no table, or not one that can be read.
    """
    from ricenet.checks.confounding import check_class_sizes, check_tables, count_excluded, label_tables
    from ricenet.checks.delivered_doses import check_deliveries, read_deliveries
    from ricenet.checks.duplicates import find_duplicates
    from ricenet.checks.manifest import check_manifest

    cases, findings = inspect_cohort(cohort, further, partial=partial)
    log_further(further, cases)
    log_lacking(cases)
    folders = {} if ready is None else {each.case_key: ready / each.folder for each in read_cases(ready)}
    tasks = {case.name: (_readable(case, cohort), folders.get(case.key), flip, doses) for case in cases}
    examined, failed = _examine_all(tasks, limits)
    findings += failed
    for each in examined:
        findings += each.findings
    traces = [each.traces for each in examined]
    findings += find_duplicates(traces)
    findings += check_manifest(cohort, _files(examined))
    tables = label_tables(cases)
    excluded = count_excluded(cohort)
    findings += check_tables(tables) + check_class_sizes(cases)
    deliveries, unreadable = read_deliveries(cohort, cases)
    findings += unreadable + check_deliveries(deliveries, findings)
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.code, finding.case, finding.channel))
    out.mkdir(parents=True, exist_ok=True)
    record = _record(findings, cases, examined, tables, excluded, deliveries)
    record.write(out / "verify.json")
    drawn = _draw_all(_to_draw(findings, tasks, pictures), limits)
    replace_file(out / "verify.html", _page(record, drawn))
    return findings


def count_codes(findings: Sequence[Finding]) -> list[tuple[str, str, int]]:
    """(severity, code, how many), errors first."""
    counts = Counter((SEVERITIES.index(finding.severity), finding.code) for finding in findings)
    return [(SEVERITIES[severity], code, count) for (severity, code), count in sorted(counts.items())]


def _readable(case: Case, cohort: Path) -> Case:
    """Leave out the files that are missing or lie elsewhere: the findings about the table name those."""
    root = cohort.resolve()

    def good(path: Path | None) -> Path | None:
        return path if path and path.is_file() and path.is_relative_to(root) else None

    images = {role: path for role, path in case.images.items() if good(path)}
    further = {role: path for role, path in case.further_doses.items() if good(path)}
    structures = {name: path for name, path in case.structures.items() if good(path)}
    return replace(
        case,
        images=images,
        planning=good(case.planning),
        brain_mask=good(case.brain_mask),
        further_doses=further,
        lesion=good(case.lesion),
        structures=structures,
    )


def _examine_all(tasks: dict[str, ExamineTask], limits: Limits) -> tuple[list["Examined"], list[Finding]]:
    """Every case that could be examined, in the table's order; and a finding for each process that ended otherwise."""
    from ricenet.checks.case_checks import examine

    done: dict[str, Examined] = {}
    failed = []
    for name, end in _run_all("examine", examine, tasks, limits):
        if end.kind == "done":
            done[name] = end.value
        else:
            failed.append(Finding(end.code, name, end.message, "nothing else is known of this case"))
    return [done[name] for name in tasks if name in done], failed


def _draw_all(cases: dict[str, tuple[Case]], limits: Limits) -> list[Picture]:
    from ricenet.checks.case_checks import draw

    drawn = dict(_run_all("draw", draw, cases, limits))
    pictures = []
    for name in cases:
        if drawn[name].kind != "done":
            log.warning("no picture could be drawn for %s", drawn[name])
        elif drawn[name].value:
            alt = "Axial, coronal and sagittal slices of the case's MRIs and dose, each in its own frame"
            pictures.append(Picture(jpeg(io.BytesIO(drawn[name].value)), alt, name))
    return pictures


def _run_all(
    what: str, work: Callable[..., object], tasks: Mapping[str, tuple[object, ...]], limits: Limits
) -> Iterator[tuple[str, Ended]]:
    from tqdm import tqdm

    with closing(run_each(work, tasks, **asdict(limits), preload=["ants", "ricenet.checks.case_checks"])) as ends:
        yield from tqdm(ends, total=len(tasks), unit="case", desc=what, disable=None)


def _files(examined: Sequence["Examined"]) -> dict[Path, tuple[Case, str, str]]:
    return {
        path: (each.traces.case, role, each.traces.files[role])
        for each in examined
        for role, path in each.traces.case.files.items()
    }


def _to_draw(findings: Sequence[Finding], tasks: Mapping[str, ExamineTask], pictures: int) -> dict[str, tuple[Case]]:
    """The cases with findings first, then others."""
    named = [finding.case for finding in findings if finding.case in tasks]
    return {name: tasks[name][:1] for name in list(dict.fromkeys([*named, *tasks]))[:pictures]}


def _record(
    findings: list[Finding],
    cases: Sequence[Case],
    examined: Sequence["Examined"],
    tables: list["LabelTable"],
    excluded: dict[str, int],
    deliveries: list["DeliveredCase"],
) -> "VerifyRecord":
    from ricenet.checks.verify_record import CaseFacts, VerifiedCase, VerifyRecord

    of_row = {each.traces.case.row: each for each in examined}
    return VerifyRecord(
        findings=findings,
        counts={severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES},
        cases=[
            VerifiedCase(
                case_key=case.key,
                row=case.row,
                label=LABELS[case.label] if case.label >= 0 else None,
                sha256=dict(of_row[case.row].traces.files) if case.row in of_row else {},
                facts=of_row[case.row].facts if case.row in of_row else CaseFacts(images={}),
            )
            for case in cases
        ],
        label_tables=tables,
        excluded=excluded,
        **({"deliveries": deliveries} if deliveries else {}),
        versions={"ricenet": __version__, **{package: version(package) for package in PACKAGES}},
    )


def _page(record: "VerifyRecord", pictures: Sequence[Picture]) -> str:
    from ricenet.checks.delivered_doses import is_plain

    return render(
        "verify.html.j2",
        filters={"p_value": lambda p: "not tested" if p is None else f"p = {p:.2g}"},
        sections=[section for section in SECTIONS if section[0] != "doses" or record.deliveries],
        classes=LABELS,
        plain={each.case_key for each in record.deliveries if is_plain(each)},
        codes=count_codes(record.findings),
        pictures=pictures,
        n_cases=len(record.cases),
        **dict(record),
    )


if __name__ == "__main__":
    main()
