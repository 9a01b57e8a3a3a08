"""What README and docs say of the repository is there: links, files, modules, make targets, commands and their keys."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from ricenet.__main__ import STAGES
from ricenet.delivery import course_choice, courses, patient_doses, rtplan, usable_doses
from ricenet.dicom.headers import FIRST_YEAR

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SOURCES = sorted(
    path
    for folder in ("ricenet", "conf", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml", ".j2") and "niivue" not in path.parts
)
LONGEST_LINE = 100
FENCE = re.compile(r"^ *```.*?^ *```", re.S | re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OURS = re.compile(r"(?:ricenet|tests|docs|conf|benchmarks|\.ci|\.github)/[\w./-]*")
CITED = re.compile(r"\b(?:tests|conf|benchmarks|docs|ricenet)/[\w/.]*\w\.(?:py|yaml|md|css|js)\b")
COMMAND = re.compile(r"python -m ricenet\.(\w+)((?:[ \t]+(?!#)\S+|[ \t]*\\\n)*)")
# Of the stages' command lines, beside their own keys: Hydra's, and the groups from which a default is chosen.
SHARED_KEYS = {"hydra", "hydra/launcher", "experiment", "modalities", "source", "logger", "model", "trainer"}


@cache
def text_of(path: Path) -> str:
    return path.read_text()


def prose(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path) -> Iterator[str]:
    yield from re.findall(r"`([^`\n]+)`", prose(page))


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_and_anchor_resolves(name: str) -> None:
    page, broken = ROOT / name, []
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        file = (page.parent / target) if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("name", NAMES)
def test_every_file_named_in_backticks_exists(name: str) -> None:
    files = {path.name for path in SOURCES if path.suffix == ".py"}
    missing = []
    for text in code(ROOT / name):
        if OURS.fullmatch(text) and not (ROOT / text).exists():
            missing.append(text)
        if re.fullmatch(r"\w+\.py", text) and text not in files:
            missing.append(text)
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_prose_is_wrapped(name: str) -> None:
    """Tables and code are as wide as they are; so is a link or a piece of code that is a line by itself."""
    lines = [line for line in prose(ROOT / name).splitlines() if len(line) > LONGEST_LINE and not line.startswith("|")]
    assert not [line for line in lines if not re.fullmatch(r"\s*(\[[^\]]*\]\([^)]*\)|`[^`]*`)\S*", line)]


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / name).read_text(), re.M)
    assert set(named) <= targets


@pytest.mark.parametrize("name", NAMES)
def test_every_command_names_a_stage_and_keys_that_it_has(name: str) -> None:
    unknown = []
    for stage, rest in COMMAND.findall((ROOT / name).read_text()):
        if stage not in STAGES:
            unknown.append(stage)
            continue
        config = yaml.safe_load((ROOT / "conf" / f"{stage}.yaml").read_text())
        groups = {group for entry in config["defaults"] if isinstance(entry, dict) for group in entry}
        keys = set(config) | groups | SHARED_KEYS | ({"model"} if stage == "predict" else set())
        for key in re.findall(r"(?<!\S)'?\+?([\w./]+)=", rest):
            if key not in keys and key.split(".")[0] not in keys:
                unknown.append(f"{stage} {key}")
    assert not unknown


def test_files_cited_in_the_sources_exist() -> None:
    cited = {(file, path) for path in SOURCES for file in CITED.findall(text_of(path))}
    assert not [f"{path.relative_to(ROOT)}: {file}" for file, path in cited if not (ROOT / file).is_file()]


def test_every_module_named_anywhere_exists() -> None:
    named = re.compile(r"\bricenet(?:\.[a-z]\w*)+(?:\.[A-Z]\w+)?")
    dotted = {name: path for path in [*PAGES, *SOURCES] for name in named.findall(text_of(path))}
    assert not [f"{path.relative_to(ROOT)}: {name}" for name, path in dotted.items() if not resolves(name.split("."))]


def resolves(parts: list[str]) -> bool:
    """Whether the longest part of a dotted name that is a module has the rest of it in its text."""
    for length in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return all(part in text_of(file) for part in parts[length:])
    return False


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("prediction", "is not the file that was exported"),
        ("prediction", "is not listed in"),
        ("prediction", "is a link"),
        ("prediction", "is no safetensors file"),
        ("prediction", "no prediction, see the findings: <out>/"),
        ("prediction", "no prediction was made. Follow the advice next to each finding:"),
        ("prediction", "series fit equally"),
        ("your_cohort", "series fit equally"),
        ("your_cohort", "cases were refused; the rest are in the cohort."),
        ("your_cohort", "not named in doses"),
        ("your_cohort", "named in exclude_doses"),
        ("your_cohort", "belongs to none of the plans named in plans"),
        ("your_cohort", "holds no dose but zeros"),
        ("privacy", "RICENET_TRACEBACK=1 shows the rest"),
        ("slurm", "an epoch is the median of"),
    ],
)
def test_messages_are_quoted_as_they_are(page: str, words: str) -> None:
    assert words in " ".join((ROOT / "docs" / f"{page}.md").read_text().split())
    assert any(words in text_of(path) for path in SOURCES if path.is_relative_to(ROOT / "ricenet"))


def test_what_is_done_with_doses_has_the_numbers_and_codes_of_the_code() -> None:
    text = " ".join((ROOT / "docs" / "your_cohort.md").read_text().split())
    section = text.partition("### What is done with your doses")[2].partition("### Limits of the dose")[0]
    low, high = courses.MAXIMUM_OVER_PRESCRIPTION
    for words in (
        f"at most {course_choice.MAX_DAYS_APART} days apart",
        f"{course_choice.MIN_BOOST_GY:g} Gy or more and at most {course_choice.MAX_BOOST_SHARE:.0%} of the primary",
        f"differ by at most {course_choice.MAX_FRACTION_DOSE_RATIO - 1:.0%}",
        f"at most {course_choice.MAX_SEQUENCE_GY:g} Gy",
        f"prescription within {course_choice.SAME_PRESCRIPTION:.0%}",
        f"{low:g} to {high:g} times",
        f"at most {course_choice.MAX_NEXT_BOOST:.0%} of the first",
        f"less than {usable_doses.NO_DOSE_GY:g} Gy",
        f"more than {rtplan.HIGHEST_TARGET_GY:g} Gy",
        f"({usable_doses.SAME_MM:g} mm, {usable_doses.SAME_GY:g} Gy)",
        f"to {usable_doses.SAME_SUM:.0%} of the maximum",
        f"within {rtplan.CONFIRMED_SHARE:.0%} of it",
        f"before {FIRST_YEAR}",
        ", ".join(sorted(rtplan.CHECKS, key=rtplan.CHECKS.index)[:2]),
    ):
        assert words in section, words
    assert [name for name in patient_doses.READ if name not in section] == []
    known = set(re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "findings.md").read_text(), re.M))
    named = set(re.findall(r"`((?:treatment|dose|rtdose|role)\.\w+)`", section))
    assert named
    assert named <= known
    config = yaml.safe_load((ROOT / "conf" / "predict.yaml").read_text())
    assert {"doses", "plans", "exclude_doses", "fractions", "prescription_gy", "radiotherapy_start"} <= set(config)


def test_the_layout_has_one_line_for_each_package() -> None:
    (block,) = re.findall(r"^## Layout\n.*?^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    packages = {folder.parent.name for folder in (ROOT / "ricenet").glob("*/__init__.py")}
    assert sorted(line.split("/")[0] for line in block.splitlines()) == sorted(packages)


def test_the_layers_are_those_that_lint_checks() -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (block,) = re.findall(
        r"^## Who may import whom\n.*?^```\n(.*?)^```", (ROOT / "docs" / "architecture.md").read_text(), re.S | re.M
    )
    commands, *layers = contract["layers"]
    first, *lines = block.splitlines()
    assert lines == layers
    assert sorted(first.removeprefix("the commands: ").split()) == sorted(set(commands.split(" | ")) - {"__main__"})
