"""Folders and files that are there completely or not at all, whatever kills the process that writes them.

What is unfinished stands beside its target under a name that begins with `.partial-` and that no other process has. The
next holder of the parent folder removes it: `remove_leftovers`.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from ricenet.errors import InvalidInput

PREFIX = ".partial-"
POLL_S = 0.2


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
        folder: of partial_folder; flat.
        target: in the same parent folder.
        last: the file by which a target is complete; one without it is replaced.
    """
    for path in (*folder.iterdir(), folder):
        _fsync(path)
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
    """A new folder, flat, that takes the place of `target` at the end, flushed to disk; after an error nothing changes.

    For content that may differ from what stands there, unlike publish. A reader sees the old folder, for a moment none,
    then the new one.
    """
    with partial_folder(target.parent, target.name) as folder:
        yield folder
        for path in (*folder.iterdir(), folder):
            _fsync(path)
        remove_folder(target)
        folder.replace(target)
        _fsync(target.parent)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write `path` in one step, text as UTF-8; a reader, after a power cut too, sees the old file or the new one."""
    with replacing_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """A binary stream whose content becomes the file `path` at the end, in one step; after an error nothing changes."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_once(path: Path, content: str) -> None:
    """Write `path` atomically, as UTF-8, unless it exists: of several processes the first one's file stays."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode())
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove `folder`, if it is there; in one step for whoever looks, so that no half of it looks complete."""
    doomed = folder.with_name(_partial_name(folder.name))
    with suppress(FileNotFoundError):
        folder.replace(doomed)
        shutil.rmtree(doomed)


@contextmanager
def hold(folder: Path, patience_s: float = 0, name: str = "this folder") -> Iterator[None]:
    """Be the only process that writes to `folder`; what killed ones left unfinished there is removed first.

    Raises:
        InvalidInput: another process holds it, and has not let go within `patience_s`.
    """
    with (folder / ".lock").open("w") as handle:
        give_up = time.monotonic() + patience_s
        while not _locked(handle):
            if time.monotonic() >= give_up:
                raise InvalidInput(f"another run is writing to {name}", "wait for it", code="folder.locked")
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
    """Remove what killed processes left unfinished in `parent`; only for who knows that nobody else writes there."""
    for leftover in parent.glob(f"{PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for suffix in ("csv", "json", "yaml", "sha256", "ckpt", "html"):  # files on their way: .<name>.<pid>
        for table in parent.glob(f".*.{suffix}.*"):
            table.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _partial_name(name: str) -> str:
    return f"{PREFIX}{name}-{secrets.token_hex(4)}"


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


MANIFEST = "manifest.sha256"  # of a cohort folder, as sha256sum writes it


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
