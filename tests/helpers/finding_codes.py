"""docs/findings.md from the source: every code of InvalidInput, Finding and Ended in ricenet/, read by its syntax tree.

Run: make findings. A code is a literal, a local name or a choice of literals, or the argument of one of HELPERS.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap

import ricenet
from ricenet.delivery.patient_doses import CHOOSE

PACKAGE = Path(ricenet.__file__).parent
PAGE = PACKAGE.parent / "docs" / "findings.md"
REFUSED = "refused"


@dataclass(frozen=True)
class Signature:
    """Where a call has its code, message, hint and severity: place among the positional arguments.

    Attributes:
        prefixes: what stands before the code that is given.
        default_hint: where the call gives none.
    """

    code: int
    message: int
    hint: int
    severity: int | None = None
    default_severity: str = REFUSED
    prefixes: tuple[str, ...] = ("",)
    default_hint: str = ""


KINDS = {
    "InvalidInput": Signature(code=99, message=0, hint=1),
    "Undecided": Signature(code=99, message=0, hint=1),
    "Finding": Signature(code=0, message=2, hint=3, severity=4, default_severity="error"),
    "Ended": Signature(code=2, message=3, hint=99, default_severity="failed"),
}
# Functions that make one of these of a code: by module, or "" for all, and name.
HELPERS = {
    ("cohort/table.py", "report"): Signature(code=0, message=1, hint=2, default_severity="error"),
    ("delivery/rtdose.py", "refusal"): Signature(code=0, message=1, hint=2, prefixes=("rtdose.",)),
    ("delivery/rtplan.py", "refusal"): Signature(code=0, message=1, hint=2, prefixes=("rtplan.",)),
    ("delivery/rtobject.py", "refusal"): Signature(code=0, message=1, hint=2, prefixes=("rtdose.", "rtplan.")),
    ("delivery/rtstruct.py", "refusal"): Signature(code=0, message=1, hint=2, prefixes=("rtstruct.",)),
    **{
        (f"delivery/{module}.py", "refusal"): Signature(
            code=0, message=1, hint=2, prefixes=("treatment.",), default_hint=CHOOSE
        )
        for module in ("courses", "course_choice", "usable_doses", "treatment")
    },
    ("", "broken"): Signature(code=0, message=1, hint=2, prefixes=("model.",)),
}
# Inside of these the code is an argument; their calls are read instead.
INSIDE_HELPERS = {"report", "refusal", "broken"}
CODE = re.compile(r"[a-z0-9_]+\.[a-z0-9_{}]+")


@dataclass(frozen=True, order=True)
class Entry:
    """One place that reports a code."""

    code: str
    severity: str
    message: str
    hint: str
    module: str


@dataclass(frozen=True)
class Unresolved(Exception):
    """A code that cannot be read from the source."""

    place: str


@cache
def entries() -> list[Entry]:
    """Every code with what is said at each of its places, sorted.

    Raises:
        Unresolved: a code that is no literal.
    """
    found: set[Entry] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        found.update(module_entries(path))
    return sorted(found)


def module_entries(path: Path) -> Iterator[Entry]:
    """The entries of one module."""
    module = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
    nodes = list(ast.walk(_tree(path)))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = _name(call.func)
        signature = KINDS.get(name) or HELPERS.get((module, name)) or HELPERS.get(("", name))
        if signature is None and name == "refusal":
            raise KeyError(f"{module} calls refusal(): say in HELPERS what its codes begin with")
        if signature is None:
            continue
        around = [each for each in functions if each.lineno <= call.lineno <= (each.end_lineno or 0)]
        if name in KINDS and any(each.name in INSIDE_HELPERS for each in around):
            continue
        yield from _entries_of(call, signature, _Names(around, constants(module), call), module)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _entries_of(call: ast.Call, signature: Signature, names: "_Names", module: str) -> Iterator[Entry]:
    given = _argument(call, "code", signature.code) or _argument(call, "rule", signature.code)
    if given is None:
        if _name(call.func) == "Ended":
            return  # it ended well
        raise Unresolved(f"{module}:{call.lineno}")
    if isinstance(given, ast.Attribute) and given.attr == "code":
        return  # passes on what another place reports
    message = names.text(_argument(call, "message", signature.message))
    hint = names.text(_argument(call, "hint", signature.hint)) or signature.default_hint
    severity = signature.default_severity
    if signature.severity is not None:
        severity = names.text(_argument(call, "severity", signature.severity)) or severity
    for code in names.choices(given):
        for prefix in signature.prefixes:
            if not CODE.fullmatch(prefix + code):
                raise Unresolved(f"{module}:{call.lineno}: {prefix}{code}")
            yield Entry(prefix + code, severity, message, hint, module.removesuffix(".py"))


def _argument(call: ast.Call, name: str, place: int) -> ast.expr | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return named[0] if named else call.args[place] if place < len(call.args) else None


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@dataclass(frozen=True)
class _Names:
    """What local names and constants stand for at a place."""

    functions: list[ast.FunctionDef]
    constants: Mapping[str, object]
    call: ast.Call

    def choices(self, node: ast.expr) -> list[str]:
        """The texts that an expression can be."""
        if isinstance(node, ast.IfExp):
            return self.choices(node.body) + self.choices(node.orelse)
        if isinstance(node, ast.Name) and (values := self._assigned(node.id)):
            return list(dict.fromkeys(choice for value in values for choice in self.choices(value)))
        return [self.text(node)]

    def text(self, node: ast.expr | None) -> str:
        """An expression as text, with what is filled in as {names}."""
        if node is None:
            return ""
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(map(self._part, node.values))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.text(node.left) + self.text(node.right)
        if isinstance(node, ast.IfExp):
            return " / ".join(filter(None, dict.fromkeys(self.choices(node))))
        if isinstance(node, ast.Name):
            if node.id in self.constants:
                return str(self.constants[node.id])
            if values := self._assigned(node.id):
                return " / ".join(dict.fromkeys(map(self.text, values)))
        return f"{{{_readable(node)}}}"

    def _part(self, node: ast.expr) -> str:
        if not isinstance(node, ast.FormattedValue):
            return self.text(node)
        value = node.value
        if isinstance(value, ast.Name) and value.id in self.constants:
            format_spec = self.text(node.format_spec) if node.format_spec else ""
            return format(self.constants[value.id], format_spec)
        if isinstance(value, ast.Name | ast.IfExp):
            return self.text(value)
        return f"{{{_readable(value)}}}"

    def _assigned(self, name: str) -> list[ast.expr]:
        """The texts that a local name can have where the call stands; nothing where one of them is no text."""
        values = [value for function in self.functions[-1:] for value in _Flow(name, self.call).values(function)]
        return values if all(isinstance(value, ast.Constant | ast.JoinedStr | ast.IfExp) for value in values) else []


class _Flow:
    """What is assigned to a local name on the ways that lead to a call."""

    def __init__(self, name: str, call: ast.Call):
        self.name = name
        self.call = call
        self.at_call: list[ast.expr] = []

    def values(self, function: ast.FunctionDef) -> list[ast.expr]:
        """The last assignment on each way; empty where the name is an argument or is set elsewhere."""
        self._end_of(function.body, [])
        return self.at_call

    def _end_of(self, block: Sequence[ast.stmt], values: list[ast.expr]) -> list[ast.expr] | None:
        """What the name can be after a block that it enters as `values`; None where the block is always left."""
        for statement in block:
            branches = _branches(statement)
            inside = any(_holds(part, self.call) for branch in branches for part in branch)
            if not inside and _holds(statement, self.call):
                self.at_call = values
            if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break):
                return None
            if isinstance(statement, ast.Assign):
                given = [each for target in statement.targets for each in _given_to(target, statement.value, self.name)]
                values = given or values
            if branches:
                ends = [self._end_of(branch, values) for branch in branches]
                ways = [values, *ends] if _can_be_passed_over(statement) else ends
                reached = [end for end in ways if end is not None]
                if not reached:
                    return None
                values = list(dict.fromkeys(value for end in reached for value in end))
        return values


def _holds(statement: ast.stmt, call: ast.Call) -> bool:
    """Whether the call stands in the statement: a statement has its lines for itself."""
    return statement.lineno <= call.lineno <= (statement.end_lineno or 0)


def _branches(statement: ast.stmt) -> list[Sequence[ast.stmt]]:
    """The blocks of a compound statement of which one is taken."""
    if isinstance(statement, ast.Match):
        return [case.body for case in statement.cases]
    if isinstance(statement, ast.Try):
        return [[*statement.body, *statement.orelse], *(handler.body for handler in statement.handlers)]
    blocks = (getattr(statement, field, []) for field in ("body", "orelse"))
    return [block for block in blocks if block]


def _can_be_passed_over(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.For | ast.While | ast.Match) or (
        isinstance(statement, ast.If) and not statement.orelse
    )


def _given_to(target: ast.expr, value: ast.expr, name: str) -> list[ast.expr]:
    if isinstance(target, ast.Name) and target.id == name:
        return [value]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=False)
        return [each for part, given in pairs for each in _given_to(part, given, name)]
    return []


def _readable(node: ast.expr) -> str:
    """A short name for an expression: its last attribute or variable."""
    if isinstance(node, ast.Call):
        function = _name(node.func)
        if function == "join" and node.args:
            return _readable(node.args[0])
        if function == "len" and node.args:
            return f"number of {_readable(node.args[0])}"
        return _readable(node.args[0]) if node.args else _readable(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr.replace("_", " ").lower()
    if isinstance(node, ast.Name):
        return node.id.replace("_", " ").lower()
    if isinstance(node, ast.Subscript):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        return key.replace("_", " ") if isinstance(key, str) else _readable(node.value)
    if isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp):
        return _readable(node.generators[0].iter)
    if isinstance(node, ast.BinOp):
        return _readable(node.left)
    if isinstance(node, ast.BoolOp):
        return _readable(node.values[0])
    if isinstance(node, ast.IfExp):
        return _readable(node.body)
    if isinstance(node, ast.Constant):
        return str(node.value).strip() or "value"
    return "value"


@cache
def constants(module: str) -> dict[str, object]:
    """The text and number constants that a module defines or imports from another of ours."""
    path = PACKAGE / module
    if not path.is_file():
        return {}
    found: dict[str, object] = {}
    for node in _tree(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Assign):
            names = [each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            for name in names:
                values = _given_to(node.targets[0], node.value, name)
                found.update((name, value.value) for value in values if isinstance(value, ast.Constant))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ricenet."):
            source = constants(f"{node.module.replace('.', '/').removeprefix('ricenet/')}.py")
            found |= {name.name: source[name.name] for name in node.names if name.name in source}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def page() -> str:
    """The text of docs/findings.md."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries():
        groups[entry.code.partition(".")[0]].append(entry)
    lines = [
        "# Findings and refusals",
        "",
        "Every code that ricenet reports, generated from the source by `make findings`. What a message",
        "fills in stands in {braces}; alternatives are parted by a slash.",
        "",
        "- *refused*: the command ends with exit code 3, or preprocessing lists the case in failed.csv.",
        "- *error*, *warning*, *info*: a finding of `verify` or `predict`.",
        "- *failed*: the process of one case ended otherwise.",
        "",
        *wrap(", ".join(f"[{group}](#{group})" for group in sorted(groups)), 100, break_on_hyphens=False),
    ]
    for group, members in sorted(groups.items()):
        lines += ["", f"## {group}", "", "| code | kind | what is wrong | what to do | module |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [
            f"| `{entry.code}` | {entry.severity} | {_cell(entry.message)} | {_cell(entry.hint)} | {entry.module} |"
            for entry in members
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.name}: {len({entry.code for entry in entries()})} codes\n")
