"""Compare the files of a cohort folder with manifest.sha256, which `sha256sum` wrote when they were good.

ricenet.ingest writes one; for other cohorts: cd COHORT && find . -name '*.nii*' | xargs sha256sum > manifest.sha256
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ricenet.checks.image_checks import COHORT
from ricenet.cohort.table import Case
from ricenet.command.atomic import MANIFEST, file_hash
from ricenet.errors import Finding

LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def check_manifest(root: Path, files: Mapping[Path, tuple[Case, str, str]]) -> list[Finding]:
    """Compare `root`/manifest.sha256 with the files; nothing to say where there is none.

    Args:
        root: the cohort folder.
        files: of the table: path -> its case, its role and its SHA-256 now.
    """
    if not (root / MANIFEST).is_file():
        return []
    findings = []
    listed = set()
    for number, line in enumerate((root / MANIFEST).read_text("utf-8", errors="replace").splitlines(), start=1):
        where = f"line {number} of {MANIFEST}"
        match = LINE.fullmatch(line)
        path = (root / match[2]).resolve() if match else root
        if match is None or not path.is_relative_to(root.resolve()):
            message = f"{where} is not a SHA-256, two spaces and a path inside the cohort folder"
            findings.append(Finding("manifest.damaged", COHORT, message, "write it again with sha256sum"))
            continue
        listed.add(path)
        case, role, now = files.get(path, (None, "", ""))
        name = COHORT if case is None else case.name
        if not path.is_file():
            message = f"the file of {where} is not there"
            findings.append(Finding("manifest.missing", name, message, "restore it from its source", channel=role))
        elif (now or file_hash(path)) != match[1]:
            message = f"the file of {where} has changed since the manifest was written"
            hint = "restore it; if the change is intended, write its line again with sha256sum"
            findings.append(Finding("manifest.changed", name, message, hint, channel=role))
    for case, role, _ in (files[path] for path in files.keys() - listed):
        message = f"its {role} file does not stand in {MANIFEST}"
        hint = "add its line with sha256sum, so that a change will be seen"
        findings.append(Finding("manifest.unlisted", case.name, message, hint, "warning", role))
    return sorted(findings, key=lambda finding: (finding.case, finding.channel))
