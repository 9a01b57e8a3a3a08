"""Atomic writes: readers see the complete result or nothing, even if the writer is killed or the power fails.

Every output of ricenet is written through this module: beside its target under a hidden name, flushed, renamed, and the
folder's entry flushed. An unfinished folder is called `.partial-<name>-<random>`, an unfinished file
`.ricenet-<pid>-<name>`; the next holder of the lock removes both (`remove_leftovers`), and nothing else that is hidden.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, BinaryIO, TextIO

from ricenet.errors import InvalidInput

PREFIX = ".partial-"
UNFINISHED_FOLDER = re.compile(r"\.partial-.+-[0-9a-f]{8}")
UNFINISHED_FILE = re.compile(r"\.ricenet-\d+-.+")
POLL_S = 0.2
MANIFEST = "manifest.sha256"  # of a cohort folder, as sha256sum writes it


@contextmanager
def partial_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder in `parent` on the way to becoming `parent`/`name`; gone at the end, unless it was renamed."""
    folder = parent / _partial_name(name)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path, last: str) -> None:
    """Flush `folder` to disk and rename it to `target`.

    Where another process has been faster, its folder stays: the same name stands for the same content.

    Args:
        folder: of partial_folder.
        target: in the same parent folder.
        last: the file by which a target is complete; one without it is replaced.
    """
    _flush(folder)
    if not (target / last).is_file():
        remove_folder(target)
    try:
        folder.replace(target)
    except OSError:  # there is one, and it is not empty
        if not (target / last).is_file():
            raise
    _fsync(target.parent)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends well; after an error `target` stays.

    For content that may differ from what stands there, unlike publish. A reader sees the old folder, for a moment none,
    then the new one.
    """
    with partial_folder(target.parent, target.name) as folder:
        yield folder
        _flush(folder)
        remove_folder(target)
        folder.replace(target)
        _fsync(target.parent)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write `path` atomically, text as UTF-8: readers see the old file or the new one."""
    with replacing_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """A binary stream whose content becomes the file `path` when the block ends well; after an error `path` stays."""
    temporary = unfinished(path)
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_text(path: Path) -> Iterator[TextIO]:
    """As replacing_file, for UTF-8 text; line ends stay as they are written, which suits the csv module."""
    with replacing_file(path) as stream:
        text = TextIOWrapper(stream, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()  # else it would close the stream before it is flushed to disk


def write_once(path: Path, content: str, mode: int = 0o666) -> None:
    """Write `path` atomically, as UTF-8, unless it exists: of several processes the first one's file stays.

    Args:
        mode: of the new file, before the umask.
    """
    temporary = unfinished(path)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(content.encode())
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_folder(folder: Path) -> None:
    """Remove `folder`, if it exists, atomically: it is renamed first, so that no half of it looks complete."""
    doomed = folder.with_name(_partial_name(folder.name))
    with suppress(FileNotFoundError):
        folder.replace(doomed)
        shutil.rmtree(doomed)


@contextmanager
def hold(folder: Path, patience_s: float = 0, name: str = "this folder") -> Iterator[None]:
    """Hold an exclusive lock on `folder`; what killed processes left unfinished there is removed first.

    Args:
        folder: an existing folder.
        patience_s: how long to wait for another process's lock.
        name: how messages call the folder.

    Raises:
        InvalidInput: another process holds the lock longer than `patience_s`.
    """
    with (folder / ".lock").open("w") as handle:
        give_up = time.monotonic() + patience_s
        while not _locked(handle):
            if time.monotonic() >= give_up:
                raise InvalidInput(f"another run is writing to {name}", "wait until it has ended", code="folder.locked")
            time.sleep(POLL_S)
        remove_leftovers(folder)
        try:
            yield
        finally:
            remove_leftovers(folder)  # of workers that were killed


def _locked(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_leftovers(parent: Path) -> None:
    """Remove what killed processes left unfinished in `parent`; only for the holder of its lock."""
    for path in parent.glob(".*"):
        if UNFINISHED_FOLDER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
        elif UNFINISHED_FILE.fullmatch(path.name) and path.is_file():
            path.unlink()


def unfinished(path: Path) -> Path:
    """The name under which this process writes the file `path` before it is complete."""
    return path.with_name(f".ricenet-{os.getpid()}-{path.name}")


def _partial_name(name: str) -> str:
    return f"{PREFIX}{name}-{secrets.token_hex(4)}"


def _flush(folder: Path) -> None:
    """Flush everything in `folder`, and then the folder."""
    for path in (*folder.rglob("*"), folder):
        _fsync(path)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
