"""The text of `python -m ricenet.<stage> --help`, from conf/<stage>.yaml and the files of its groups.

The config files explain themselves, so the help is their own lines. They are read as text: a YAML parser and Hydra
would make everybody wait ten times as long. A stage's file is a header of comments, the defaults, a blank line, the
keys, and where the stage runs grids a hydra block, in this order.
"""

import re
from itertools import takewhile
from pathlib import Path
from textwrap import indent

from ricenet.command.schemas import CONF_DIR

STAGE_FILE = re.compile(
    r"(?P<header>(?:#[^\n]*\n)+)defaults:\n(?P<defaults>(?: [^\n]*\n)+)\n(?P<keys>.*?)(?P<hydra>^hydra:\n.*)?",
    re.DOTALL | re.MULTILINE,
)
# `model: resnet18` is changed with model=, `modalities/rd` with +modalities=; quiet, _self_ and override are no choice.
GROUP = re.compile(r"^  - (?P<name>\w+)(?P<sign>: |/)(?P<default>\w+)(?=\s)", re.MULTILINE)
HEADER = re.compile(r"(?:#[^\n]*\n)+")

GROUPS = "Groups: group=choice takes another file of conf/<group>/, group.key=value changes a key of it\n"
GRID = """\
Grid: -m runs every combination of '+modalities=glob(*)' 'fold=range(5)' seed=0,1; what is finished is skipped
  hydra/launcher=
    basic             one run after the other
    joblib            side by side, as many as hydra.launcher.n_jobs=2 says
    slurm             one job of the cluster each (docs/slurm.md; submitit_local: all at once on this machine)
"""
EXIT_CODES = """\
Exit codes: 0 done | 1 crashed | 2 usage or config
            3 invalid input (what was finished before stays; verify and predict write a page with the findings)
            4 some cases or runs failed, all are listed | 130 interrupted | 143 terminated
Hydra's own: --cfg job (the config that would run), --info defaults-tree, --hydra-help"""


def usage(stage: str, purpose: str) -> str:
    """The help of a stage: its purpose, the header of its config, keys, groups with all choices, grid, exit codes."""
    file = STAGE_FILE.fullmatch((CONF_DIR / f"{stage}.yaml").read_text())
    if not file:
        raise ValueError(f"conf/{stage}.yaml: expected comments, defaults, a blank line, keys, and hydra at the end")
    groups = [_group(*group.group("name", "sign", "default")) for group in GROUP.finditer(file["defaults"])]
    sections = [
        f"usage: python -m ricenet.{stage} key=value ...\n\n{purpose}\n",
        _readable(file["header"]),
        f"Keys and their defaults; ??? has to be given:\n\n{_indented(file['keys'], 2)}\n",
        GROUPS if groups else "",
        *groups,
        GRID if file["hydra"] else "",
        EXIT_CODES,
    ]
    return "\n".join(filter(None, sections))


def _group(name: str, sign: str, default: str) -> str:
    """The choices of a group, the default marked and followed by its keys."""
    lines = [f"  {'+' if sign == '/' else ''}{name}="]
    files = sorted((CONF_DIR / name).glob("*.yaml"))
    width = max(18, *(len(path.stem) + 2 for path in files))
    for path in files:
        lines.append(f"  {'*' if path.stem == default else ' '} {path.stem:<{width}}{_purpose(path)}")
        if path.stem == default:
            lines.append(_indented(HEADER.sub("", path.read_text(), count=1), 8))
    return "\n".join(lines) + "\n"


def _purpose(path: Path) -> str:
    """The first sentence of a config file."""
    lines = path.read_text().removeprefix("# @package _global_\n").splitlines()
    header = " ".join(line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=[.?]) ", header.removeprefix("Question: "), maxsplit=1)[0]


def _readable(comments: str) -> str:
    """Without the comment signs; Command and Time on lines of their own."""
    return re.sub(r" {3,}(?=Command:|Time:)", "\n", re.sub("^# ?", "", comments, flags=re.MULTILINE))


def _indented(text: str, spaces: int) -> str:
    return indent(text.strip("\n"), " " * spaces)
