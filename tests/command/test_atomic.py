import os
from pathlib import Path

import pytest

from ricenet.command.atomic import (
    partial_folder,
    publish,
    remove_folder,
    remove_leftovers,
    replace_file,
    replacing_folder,
    replacing_text,
    write_once,
)


def fill(folder, content: str) -> None:
    (folder / "data").write_text(content)
    (folder / "last").write_text(content)


def test_a_published_folder_is_there_and_nothing_else(tmp_path):
    with partial_folder(tmp_path, "x") as folder:
        fill(folder, "new")
        assert [path.name for path in tmp_path.glob("[!.]*")] == []
        publish(folder, tmp_path / "x", last="last")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x" / "data").read_text() == "new"


def test_two_writers_of_one_name_do_not_share_a_folder_and_the_first_stays(tmp_path):
    with partial_folder(tmp_path, "x") as first, partial_folder(tmp_path, "x") as second:
        assert first != second
        for folder, content in ((first, "first"), (second, "second")):
            fill(folder, content)
            publish(folder, tmp_path / "x", last="last")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x" / "data").read_text() == "first"


def test_a_folder_without_its_last_file_is_replaced(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "data").write_text("half")
    with partial_folder(tmp_path, "x") as folder:
        fill(folder, "whole")
        publish(folder, tmp_path / "x", last="last")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x" / "data").read_text() == "whole"


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), partial_folder(tmp_path, "x") as folder:
        fill(folder / "absent", "half")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_go_and_finished_folders_stay(tmp_path):
    for name in (".partial-x-0123abcd", "x"):
        (tmp_path / name / "deep").mkdir(parents=True)
    (tmp_path / ".ricenet-123-cohort.csv").touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    remove_folder(tmp_path / "x")
    remove_folder(tmp_path / "x")  # nothing there is nothing to do
    assert list(tmp_path.iterdir()) == []


def test_hidden_files_of_other_programs_stay(tmp_path: Path) -> None:
    """out= may be any folder: vim's swap files and backups, and what looks a little like ours."""
    others = [".cohort.csv.swp", ".cohort.csv.1234", ".page.html.backup", ".ricenet-key", ".last.ckpt.17~", ".lock"]
    for name in others:
        (tmp_path / name).touch()
    for name in (".partial-mine", ".git"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, ".partial-mine", ".git"])


def test_a_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path) -> None:
    for content in ("old", "neu – ✓"):
        replace_file(tmp_path / "x.txt", content)
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert (tmp_path / "x.txt").read_text("utf-8") == "neu – ✓"


def test_a_folder_replaces_the_old_one_and_after_an_error_the_old_one_stays(tmp_path) -> None:
    for content in ("old", "new"):
        with replacing_folder(tmp_path / "x") as folder:
            fill(folder, content)
            (folder / content).touch()
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["data", "last", "new"]
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "x") as folder:  # noqa: PT012
        fill(folder, "half")
        raise RuntimeError
    assert (tmp_path / "x" / "data").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_text_keeps_its_line_ends_and_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with replacing_text(path) as stream:
        stream.write("ä,b\n1,2\r\n")
    with pytest.raises(RuntimeError), replacing_text(path) as stream:
        raise RuntimeError(stream.write("half"))
    assert path.read_bytes() == "ä,b\n1,2\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_what_is_written_once_stays(tmp_path: Path) -> None:
    for content in ("first", "second"):
        write_once(tmp_path / "folds.json", content)
    assert (tmp_path / "folds.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["folds.json"]


def test_everything_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may write a name before its content: after a power cut a file would be there and empty."""
    flushed: list[str] = []

    def record(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        flushed.append(f"{path.name} {sorted(each.name for each in tmp_path.glob('[!.]*'))}")

    monkeypatch.setattr(os, "fsync", record)
    replace_file(tmp_path / "a", "x")
    write_once(tmp_path / "b", "x")
    with replacing_folder(tmp_path / "c") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "d").write_text("x")
    pid, top = os.getpid(), tmp_path.name
    assert flushed[:2] == [f".ricenet-{pid}-a []", f"{top} ['a']"]
    assert flushed[2:4] == [f".ricenet-{pid}-b ['a']", f"{top} ['a', 'b']"]
    assert [line.split()[0] for line in flushed[4:6]] == ["deep", "d"]
    assert flushed[-1] == f"{top} ['a', 'b', 'c']"
    assert all("'c'" not in line for line in flushed[:-1])
