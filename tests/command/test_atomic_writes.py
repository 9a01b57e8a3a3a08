"""No module writes an output by itself: ricenet.command.atomic does, so that nothing is ever there in half."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ricenet

PACKAGE = Path(ricenet.__file__).parent
PATH_METHODS = {"write_text", "write_bytes"}
WRITING_METHODS = {"savefig", "save", "savez", "savez_compressed", "copyfile", "fdopen"}
WRITES_ATOMICALLY = {"figure_style"}
TO_MEMORY = {"stream", "buffer"}  # names of what is no file on disk, or one that atomic opened
# module -> method -> why it may.
ALLOWED = {
    "command/atomic.py": {"open": "it is the one that writes", "fdopen": "likewise"},
    "cases/case_folder.py": {"save": "into a partial folder that publish flushes"},
    "cases/derivatives.py": {"write_text": "into a partial folder that publish flushes"},
    "cases/structures.py": {"savez_compressed": "likewise"},
    "cases/qc_picture.py": {"savefig": "into the partial folder of case_folder, or a stream"},
    "phantom.py": {"save": "into a partial folder that publish flushes", "savez_compressed": "likewise"},
    "explain.py": {"savefig": "into replacing_folder, which flushes"},
    "prediction/model_folder.py": {"write_text": "into a partial folder that publish flushes", "copyfile": "likewise"},
    "preprocess.py": {"copy": "into a folder that only checks folds and is thrown away"},
    "dicom/pixels.py": {"save": "into a temporary folder, and read back at once"},
    "evaluation/test_split_log.py": {"open": "a line is appended under a lock, and flushed"},
    "training/checkpoint.py": {"open": "read back before the rotation that renames it, and flushed"},
    "dashboard.py": {"save": "a workspace on the server of Weights & Biases"},
}


def writes(path: Path) -> Iterator[tuple[str, int]]:
    """Method and line of each call of a module that writes a file on disk."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
        places = {each.id for each in node.args[:2] if isinstance(each, ast.Name)}
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        opens = method == "open" and any(map(_is_writing_mode, arguments))
        copies = method == "copy" and owner == "shutil"
        saves = method in WRITING_METHODS and owner not in ("", *WRITES_ATOMICALLY) and not places & TO_MEMORY
        if opens or copies or saves or (method in PATH_METHODS):
            yield method, node.lineno


def _is_writing_mode(argument: ast.expr) -> bool:
    mode = argument.value if isinstance(argument, ast.Constant) else None
    return isinstance(mode, str) and len(mode) <= 3 and bool(set(mode) & set("wax+"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_writes_through_atomic(path: Path) -> None:
    module = str(path.relative_to(PACKAGE))
    found = [f"{module}:{line}: {name}" for name, line in writes(path) if name not in ALLOWED.get(module, {})]
    assert not found, "write it with ricenet.command.atomic, or say here why not"


def test_every_exception_is_still_needed() -> None:
    for module, methods in ALLOWED.items():
        assert methods.keys() <= {name for name, _ in writes(PACKAGE / module)}, module


def test_a_module_that_writes_by_itself_is_seen(tmp_path: Path) -> None:
    lines = [
        'path.write_text("x")', 'open(path, "w")', '(a / b).open(mode="ab")', "figure.savefig(path)",
        "np.save(path, array)", 'path.open("rb")', "open(path)", "figure.savefig(stream)", "torch.save(it, buffer)",
    ]  # fmt: skip
    (tmp_path / "module.py").write_text("\n".join(lines))
    assert [line for _, line in writes(tmp_path / "module.py")] == [1, 2, 3, 4, 5]
