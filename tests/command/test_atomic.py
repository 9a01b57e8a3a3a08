import pytest

from ricenet.command.atomic import (
    partial_folder,
    publish,
    remove_folder,
    remove_leftovers,
    replace_file,
    replacing_folder,
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
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    remove_folder(tmp_path / "x")
    remove_folder(tmp_path / "x")  # nothing there is nothing to do
    assert list(tmp_path.iterdir()) == []


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
