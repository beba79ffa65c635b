"""Damaged files of a results folder are noticed, set aside, said and computed again; odd folders are one sentence."""

import json
import random
import zipfile

import numpy as np
import pytest

from relprop.errors import InputError, OutputError
from relprop.evaluation import Observer, evaluate, forecast, read_maps, read_rows, read_settings, report
from relprop.evaluation.results.damage import find_damaged
from relprop.evaluation.results.run_file import RUN
from relprop.evaluation.results.store import LOCK, locked
from tests.evaluation.world import evaluation, settings, table

CHOSEN = {"methods": ("rap",), "metrics": ("segmentation", "complexity")}


def parts(world):
    return sorted((world / "results" / "parts").glob("*.parquet"))


def broken_tail(content):
    return content[:-50] + b"x" * 20


def flipped_bit(content):
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


DAMAGE = {"tail": broken_tail, "bit": flipped_bit, "cut": lambda content: content[: len(content) // 2], "empty": lambda _: b""}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_set_aside_and_computed_again(world, damage):
    evaluate(evaluation(world, "whole", **CHOSEN))
    evaluate(evaluation(world, **CHOSEN))
    (part,) = parts(world)
    part.write_bytes(DAMAGE[damage](part.read_bytes()))
    told = []
    (line,) = forecast(evaluation(world, **CHOSEN), Observer(tell=told.append))
    assert (line.rows, line.done) == (20, 0)
    assert f"{part} is damaged" in told[0]
    told.clear()
    assert evaluate(evaluation(world, **CHOSEN), Observer(tell=told.append)).rows == 20
    assert told[0].startswith(f"{part} is damaged (")
    assert told[0].endswith(f"it was set aside as {part.name}.damaged, and what it held is computed again.")
    assert table(world / "results").equals(table(world / "whole"))
    assert evaluate(evaluation(world, **CHOSEN)).rows == 0
    report(world / "results")


def test_a_folder_in_the_place_of_a_part_is_set_aside(world):
    evaluate(evaluation(world, **CHOSEN))
    (part,) = parts(world)
    part.unlink()
    part.mkdir()
    (world / "results" / "parts" / ".hidden").mkdir()
    assert evaluate(evaluation(world, **CHOSEN)).rows == 20
    assert part.with_name(part.name + ".damaged").is_dir()


def test_no_flipped_byte_changes_a_row_unnoticed(world):
    evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",), limit=4))
    (part,) = parts(world)
    right, whole = part.read_bytes(), table(world / "results")
    draw = random.Random(0)
    for _ in range(150):
        place = draw.randrange(len(right))
        part.write_bytes(right[:place] + bytes([right[place] ^ draw.randrange(1, 256)]) + right[place + 1 :])
        assert find_damaged(world / "results") or table(world / "results").equals(whole), place


def test_damaged_maps_are_computed_again(world):
    chosen = {**CHOSEN, "keep_maps": True}
    evaluate(evaluation(world, **chosen))
    before, rows = [maps.copy() for *_, maps in read_maps(world / "results")], table(world / "results")
    path = sorted((world / "results" / "maps").iterdir())[1]
    path.write_bytes(flipped_bit(path.read_bytes()))
    with pytest.raises(InputError, match="is damaged"):
        list(read_maps(world / "results"))
    told = []
    evaluate(evaluation(world, **chosen), Observer(tell=told.append))
    assert f"{path.name}.damaged" in told[0]
    np.testing.assert_allclose([maps for *_, maps in read_maps(world / "results")], before, atol=1e-6)
    assert table(world / "results").equals(rows)
    assert not [text for text in told if "stopped" in text]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 300])
def test_maps_of_another_kind_are_one_sentence(world, content):
    evaluate(evaluation(world, methods=("rap",), metrics=("complexity",), keep_maps=True, limit=4))
    (path,) = (world / "results" / "maps").iterdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged \("):
        list(read_maps(world / "results"))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("other.npy", b"")
    with pytest.raises(InputError, match=r"is damaged \("):
        list(read_maps(world / "results"))


WRONG = {
    "no settings": '{"format": 1}',
    "null": '{"format": 1, "content": {}, "images": null}',
    "deep": "[" * 100_000,
    "a list": "[]",
    "truncated": '{"format": 1,',
    "binary": "\x00\x01",
    "a number": "3",
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_damaged_run_file_is_one_sentence(world, content):
    evaluate(evaluation(world, **CHOSEN))
    (world / "results" / RUN).write_text(content)
    for call in (lambda folder: list(read_rows(folder)), read_settings, report, lambda _: evaluate(evaluation(world, **CHOSEN))):
        with pytest.raises(InputError, match=r"run.json is damaged \(.+\); put back a copy of it, or take another folder\."):
            call(world / "results")


def test_every_setting_of_the_run_file_is_checked(world):
    evaluate(evaluation(world, **CHOSEN))
    right = settings(world / "results")
    for key in set(right) - {"format", "problems", "relprop", "torch"}:
        for value in (None, 3.5, "text", [3], {"a": 3}):
            if key == "content" and isinstance(value, dict):
                continue
            (world / "results" / RUN).write_text(json.dumps({**right, key: value}))
            with pytest.raises(InputError, match=f"is damaged \\({key}"):
                report(world / "results")


def test_a_lock_that_is_a_folder_is_one_sentence(world):
    (world / "results" / LOCK).mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be locked"), locked(world / "results"):
        pass
