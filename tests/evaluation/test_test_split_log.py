import csv
from concurrent.futures import ThreadPoolExecutor

from ricenet.evaluation.test_split_log import TABLE, count_access


def test_other_models_count_and_the_same_do_not(tmp_path):
    assert count_access(tmp_path, [b"a", b"b"]) == 1
    assert count_access(tmp_path, [b"b", b"a"]) == 1, "in whatever order"
    assert count_access(tmp_path, [b"a"]) == 2
    assert count_access(tmp_path, [b"a", b"c"]) == 3
    assert count_access(tmp_path, [b"a", b"b"]) == 3
    rows = list(csv.reader((tmp_path / TABLE).open()))
    assert [row[1] for row in rows] == ["2", "1", "2"]


def test_two_at_once_lose_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: count_access(tmp_path, [b"%d" % (n % 20)]), range(60)))
    assert len(list(csv.reader((tmp_path / TABLE).open()))) == 20


def test_a_folder_that_cannot_be_written_is_not_counted(tmp_path):
    (tmp_path / TABLE).mkdir()  # root may write into a read-only folder, but not into this
    assert count_access(tmp_path, [b"a"]) is None
