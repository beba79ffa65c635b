"""The folder of results: whole files only, no row twice, nothing foreign."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from relprop.errors import InputError
from relprop.evaluation import read_rows, read_settings
from relprop.evaluation.results.parts import coverage, file_key, valid_parts, write_whole
from relprop.evaluation.results.rows import SCHEMA, Row, to_table
from relprop.evaluation.results.run_file import RUN
from relprop.evaluation.results.store import Store

STAMP = {"weights": "pretrained", "method_options": "{}", "metric_options": "{}", "relprop": "1", "torch": "2", "device": "cpu"}


def settings(blocks=3):
    lists = {name: [] for name in ("models", "methods", "metrics", "left_out", "problems")}
    return {
        "format": 1,
        "content": {},
        "images": {"count": 4 * blocks, "digest": ""},
        "blocks": blocks,
        "metric_sets": {},
        "fingerprints": {},
        **lists,
    }


def block_rows(block, metric):
    names = [f"{block}-{number}" for number in range(4)]
    return to_table(Row(image=name, model="m", method="rap", metric=metric, seed=0, scores={"a": 1.0}, **STAMP) for name in names)


def filled(folder, blocks=3, metrics=("one", "two")):
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    store = Store(folder, settings(blocks))
    for block in range(blocks):
        store.write("pair", block, metrics, pa.concat_tables([block_rows(block, metric) for metric in metrics]))
    return store


def found(folder):
    return [(row["image"], row["metric"]) for batch in read_rows(folder) for row in batch.to_pylist()]


def test_rows_come_back_as_they_were(tmp_path):
    row = Row(
        image="a", model="m", method="rap", metric="gae", seed=7, group=("a", "b"), status="failed", reason="no", target=3,
        scores={"x": float("nan"), "y": 1.5}, curves={"c": [1.0, 2.0]}, statistics={"s": [3.0]}, seconds=0.5, **STAMP,
    )  # fmt: skip
    store = filled(tmp_path, 0)
    store.write("pair", 0, ["gae"], to_table([row]))
    (batch,) = read_rows(tmp_path)
    assert batch.schema == SCHEMA
    (back,) = batch.to_pylist()
    assert repr(dict(back["scores"])) == repr(row.scores)
    assert (dict(back["curves"]), dict(back["statistics"]), tuple(back["group"])) == (row.curves, row.statistics, row.group)
    assert (back["image"], back["target"], back["seconds"], back["reason"]) == ("a", 3, 0.5, "no")


def test_the_rows_of_a_pair_end_in_one_file(tmp_path):
    store = filled(tmp_path)
    before = found(tmp_path)
    store.compact("pair")
    assert found(tmp_path) == before
    assert len(list((tmp_path / "parts").iterdir())) == 1
    assert store.done["pair", 2] == coverage(tmp_path, read_settings(tmp_path))["pair", 2] == {"one", "two"}


def test_an_unfinished_pair_stays_in_parts(tmp_path):
    store = filled(tmp_path, 2)
    store.settings["blocks"] = 3
    store.compact("pair")
    assert len(list((tmp_path / "parts").iterdir())) == 2
    store.write("pair", 2, ["one"], block_rows(2, "one"))
    store.compact("pair")
    assert len(list((tmp_path / "parts").iterdir())) == 3


def test_a_metric_that_comes_later_joins_the_file(tmp_path):
    store = filled(tmp_path)
    store.compact("pair")
    for block in range(3):
        store.write("pair", block, ["three"], block_rows(block, "three"))
    assert len(found(tmp_path)) == 36
    store.compact("pair")
    assert len(list((tmp_path / "parts").iterdir())) == 1
    assert len(found(tmp_path)) == len(set(found(tmp_path))) == 36


@pytest.mark.parametrize("deletes", range(4))
@pytest.mark.parametrize("again", [False, True])
def test_killed_while_compacting_no_row_is_lost_or_twice(tmp_path, monkeypatch, deletes, again):
    store = filled(tmp_path / "a")
    if again:
        store.compact("pair")
        for block in range(3):
            store.write("pair", block, ["three"], block_rows(block, "three"))
    before = sorted(found(tmp_path / "a"))
    right, left = Path.unlink, [deletes]

    def unlink(path, missing_ok=False):
        if path.suffix == ".parquet" and not path.name.startswith("."):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        right(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        try:
            store.compact("pair")
        except KeyboardInterrupt:
            shutil.copytree(tmp_path / "a", tmp_path / "killed")
        else:
            return
    assert sorted(found(tmp_path / "killed")) == before
    reopened = Store(tmp_path / "killed", read_settings(tmp_path / "killed"))
    assert sorted(found(tmp_path / "killed")) == before
    assert len(list((tmp_path / "killed" / "parts").iterdir())) == 1
    assert reopened.done["pair", 0] == ({"one", "two", "three"} if again else {"one", "two"})


def test_what_a_killed_process_left_is_cleared(tmp_path):
    filled(tmp_path)
    before = found(tmp_path)
    (tmp_path / "parts" / ".pair-12345678.parquet").write_bytes(b"half of")
    assert found(tmp_path) == before
    Store(tmp_path, read_settings(tmp_path))
    assert not list((tmp_path / "parts").glob(".*"))


def test_a_damaged_part_is_named(tmp_path):
    filled(tmp_path)
    path = sorted((tmp_path / "parts").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=f"{path.name} is damaged .*; delete it and start the run again"):
        found(tmp_path)


def test_a_part_of_another_evaluation_is_refused(tmp_path):
    store = filled(tmp_path)
    store.settings["metric_sets"] = {}
    with pytest.raises(InputError, match="does not know its metrics"):
        valid_parts(tmp_path, store.settings["metric_sets"])


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": 99})])
def test_a_folder_of_something_else_is_refused(tmp_path, content):
    (tmp_path / RUN).write_text(content)
    with pytest.raises(InputError, match=RUN):
        read_settings(tmp_path)


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no evaluation"):
        list(read_rows(tmp_path))


def test_files_are_written_whole(tmp_path):
    write_whole(tmp_path / "a", b"1")
    write_whole(tmp_path / "a", b"22")
    assert (tmp_path / "a").read_bytes() == b"22"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_names_are_readable_and_unique():
    one, two = file_key("a/b c.py:f", "rap", key="1"), file_key("a/b c.py:f", "rap", key="2")
    assert one != two
    assert one.rpartition("-")[0] == two.rpartition("-")[0] == "a-b-c.py-f--rap"
    assert not file_key("x" * 30 + "/" * 9 + "y" * 39, "rap", key="1").startswith(("-", "."))
