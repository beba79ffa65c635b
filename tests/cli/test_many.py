"""``relprop explain --maps``: maps and an index of many photos; a run that was ended in any way resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from relprop.cli import app
from relprop.cli.items import Item
from relprop.cli.journal import JOURNAL, SCHEMA
from relprop.cli.together import Asked, Ready, Waiting
from relprop.explainer import Explainer
from tests.files import MODELS, ROOT, names, save_photos


@pytest.fixture
def folder(tmp_path):
    """A model file, and a tree of photos with equal names."""
    (tmp_path / "m.py").write_text(MODELS)
    (tmp_path / "photos" / "sub" / "deep").mkdir(parents=True)
    save_photos(tmp_path / "photos", "a.png", "a.jpg", "sub/a.png", "sub/deep/a.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    return tmp_path


def run(folder, *arguments, photos=("photos",), output="out", model="small"):
    sources = [folder / photo for photo in photos]
    call = ["explain", *sources, "--model", f"{folder}/m.py:{model}", "-o", folder / output, *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in call])


def index(folder, output="out"):
    return pq.read_table(folder / output / "index.parquet").to_pylist()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "out" / "maps").rglob("*.npy")}


@pytest.mark.parametrize("workers", ["0", "3"])
def test_a_tree_becomes_maps_and_an_index(folder, workers):
    result = run(folder, "--maps", "npy", "--num-workers", workers)
    assert result.exit_code == 0, result.output
    assert "4 photos: 4 explained, 0 were there" in result.output
    written = ["maps/a.jpg.npy", "maps/a.png.npy", "maps/sub/a.png.npy", "maps/sub/deep/a.png.npy"]
    assert [name for name in files(folder / "out") if name.startswith("maps")] == written
    rows = index(folder)
    assert [row["path"] for row in rows] == ["a.jpg", "a.png", "sub/a.png", "sub/deep/a.png"]
    assert pq.read_schema(folder / "out" / "index.parquet").equals(SCHEMA)
    for row in rows:
        relevance = np.load(folder / "out" / row["file"])
        assert relevance.shape == (3, 24, 24)
        assert relevance.sum() + row["absorbed"] == pytest.approx(row["logit"], abs=1e-4)
        assert row["class_name"] == ["tabby", "dog", "horse", "cow"][row["class"]]
        assert 0 < row["probability"] < 1
        assert (row["target"], row["map"], row["error"]) == (None, None, None)


def test_formats(folder):
    assert run(folder, "--maps", "safetensors", "-t", "top:2", output="s").exit_code == 0
    rows = index(folder, "s")
    assert [row["map"] for row in rows[:2]] == [0, 1]
    tensors = load_file(folder / "s" / rows[0]["file"])
    assert tensors["relevance"].shape == (1, 2, 3, 24, 24)
    assert tensors["target"].tolist() == [[row["class"] for row in rows[:2]]]
    assert run(folder, "--maps", "png", "-t", "top:2", "--smooth", "1", output="p").exit_code == 0
    assert Image.open(folder / "p" / index(folder, "p")[0]["file"]).size == (48, 24)


def test_maps_equal_those_of_single_photos(folder):
    assert run(folder, "--maps", "npy").exit_code == 0
    result = run(folder, "--npy", photos=["photos/sub/a.png"], output="one")
    assert result.exit_code == 0, result.output
    one, map_of_many = np.load(folder / "one" / "a-rap.npy"), np.load(folder / "out" / "maps" / "sub" / "a.png.npy")
    np.testing.assert_allclose(map_of_many, one, atol=1e-6 * np.abs(one).max())  # a batch sums in another order


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the batches that are explained."""
    sizes, forward = [], Explainer.forward

    def counted(self, inputs, *arguments, **options):
        sizes.append(len(inputs))
        return forward(self, inputs, *arguments, **options)

    monkeypatch.setattr(Explainer, "forward", counted)
    return sizes


@pytest.mark.parametrize(
    "target", [(), ("-t", "dog"), ("-t", "dog", "-t", "cow"), ("-t", "contrast"), ("-t", "top:2", "-t", "cow")]
)
def test_batches_give_the_maps_of_single_photos(folder, batches, target):
    save_photos(folder / "photos" / "sub", *(f"{number}.png" for number in range(5)))
    arguments = ("--maps", "npy", "--method", "lrp-epsilon", *target)
    assert run(folder, *arguments, "--batch-size", "1", output="one").exit_code == 0
    assert batches == [1] * 9
    batches.clear()
    assert run(folder, *arguments, "--batch-size", "4").exit_code == 0
    assert sum(batches) == 9
    assert max(batches) == 4
    for one, many in zip(index(folder, "one"), index(folder), strict=True):
        assert {name: one[name] for name in ("path", "map", "class_name", "file", "notes", "error")} == {
            name: many[name] for name in ("path", "map", "class_name", "file", "notes", "error")
        }
        assert many["logit"] == pytest.approx(one["logit"], rel=1e-5)
        assert many["absorbed"] == pytest.approx(one["absorbed"], rel=1e-4)
        maps = [np.load(folder / where / one["file"]) for where in ("one", "out")]
        np.testing.assert_allclose(maps[1], maps[0], atol=1e-5 * np.abs(maps[0]).max())


def test_a_photo_that_fails_in_a_batch_fails_alone(folder, batches):
    with (folder / "m.py").open("a") as file:
        file.write("""
class Bright(Net):
    def forward(self, x):
        return super().forward(x) / (x.flatten(1).amin(1, keepdim=True) < 2)

def bright():
    return Bright(4), Preprocessing((24, 24), 24)
""")
    Image.new("RGB", (50, 40), (255, 255, 255)).save(folder / "photos" / "b.png")
    (folder / "photos" / "c.png").write_text("no photo")
    result = run(folder, "--maps", "npy", "--method", "gradient", model="bright")
    assert result.exit_code == 1
    assert batches == [5, 1, 1, 1, 1, 1]  # all that can be read, then each
    errors = {row["path"]: row["error"] for row in index(folder) if row["error"]}
    assert errors.keys() == {"b.png", "c.png"}
    assert "NaN or infinite logits" in errors["b.png"]
    assert all((folder / "out" / row["file"]).is_file() for row in index(folder) if not row["error"])
    assert "6 photos: 4 explained, 0 were there" in result.output


def test_what_a_note_says_of_a_photo_stays_with_it(folder, batches):
    """A note on a batch sends its photos on alone; one that holds for all of them is of the method, and later batches stay together."""
    save_photos(folder / "photos" / "sub", *(f"{number}.png" for number in range(4)))
    assert run(folder, "--maps", "npy", "-t", "top:2", "--batch-size", "2").exit_code == 0
    assert batches == [2, 1, 1, 2, 2, 2]
    assert all(any("nearly alike" in text for text in row["notes"]) for row in index(folder))


def test_photos_wait_for_others_of_their_target(folder, batches):
    lines = [f"photos/a.png,{('dog', 'cow', '')[number % 3]}" for number in range(3)]
    lines += [f"photos/sub/a.png,{('dog', 'cow', '')[number % 3]}" for number in range(3)]
    (folder / "list.csv").write_text("\n".join(["path,target", *lines]))
    assert run(folder, "--maps", "npy", "--batch-size", "2", photos=["list.csv"]).exit_code == 0
    assert batches == [2, 2, 2]
    assert [row["target"] for row in index(folder)] == ["dog", "cow", None] * 2


def test_no_more_photos_wait_than_four_batches():
    waiting = Waiting(2)
    ready = Ready(torch.zeros(1, 3, 4, 4), (), [])
    taken = [len(group) for number in range(20) for group in waiting.add(Asked(Item(Path("x"), "x", str(number)), ready, None))]
    assert len(taken) == 13
    assert [len(group) for group in waiting.rest()] == [1] * 7


def test_other_targets_than_classes_have_words(folder):
    assert run(folder, "--maps", "npy", "-t", "contrast:dog,cow").exit_code == 0
    row = index(folder)[0]
    assert (row["class"], row["probability"]) == (None, None)
    assert row["class_name"] == "dog (class 1) rather than cow (class 3)"


def test_a_second_run_does_what_is_missing_changed_or_broken(folder):
    assert run(folder, "--maps", "npy").exit_code == 0
    before = times(folder)
    result = run(folder, "--maps", "npy")
    assert "4 photos: 0 explained, 4 were there" in result.output
    assert times(folder) == before
    maps = folder / "out" / "maps"
    (maps / "a.jpg.npy").unlink()
    (maps / "a.png.npy").write_bytes((maps / "a.png.npy").read_bytes()[:99])
    save_photos(folder / "photos" / "sub" / "deep", "b.png")
    os.utime(folder / "photos" / "sub" / "a.png", (0, 0))
    result = run(folder, "--maps", "npy")
    assert "5 photos: 4 explained, 1 were there" in result.output
    assert np.load(maps / "a.png.npy").shape == (3, 24, 24)
    assert len(index(folder)) == 5


KILLED = """
import os, signal, sys
import relprop.cli.many as many
from relprop.cli import app

write, made = many._WRITERS["npy"], []

def killed(explanation, path, look):
    made.append(path)
    if len(made) == 3:
        path.write_bytes(b"half a map")
        os.kill(os.getpid(), signal.%s)
    write(explanation, path, look)

many._WRITERS["npy"] = killed
app(sys.argv[1:])
"""


def hear_interrupts():
    """Background jobs of a shell ignore SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
@pytest.mark.parametrize(("ended", "code"), [("SIGKILL", -9), ("SIGINT", 130)])
def test_a_run_that_was_ended_resumes(folder, ended, code):
    arguments = ("explain", folder / "photos", "--model", f"{folder}/m.py:small", "-o", folder / "out", "--maps", "npy")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    call = [sys.executable, "-c", KILLED % ended, *map(str, arguments)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, preexec_fn=hear_interrupts)
    assert done.returncode == code, done.stderr
    if ended == "SIGINT":
        assert "The same command goes on from there" in done.stderr
        assert len(index(folder)) == 2
    else:
        assert not (folder / "out" / "index.parquet").exists()
        with (folder / "out" / JOURNAL).open("ab") as file:
            file.write(b'{"key": ["sub/a.p')  # the machine died while a line was written
    before = times(folder)
    result = run(folder, "--maps", "npy")
    assert result.exit_code == 0, result.output
    assert "2 of 4 photos are explained already" in result.output.replace("\n", " ")
    assert times(folder)["a.jpg.npy"] == before["a.jpg.npy"], "what was finished is not done again"
    assert np.load(folder / "out" / "maps" / "sub" / "a.png.npy").shape == (3, 24, 24)
    assert len(index(folder)) == 4
    lines = (folder / "out" / JOURNAL).read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert len(lines) == 5


def test_one_failing_photo_does_not_stop_the_run_and_is_tried_again(folder):
    (folder / "photos" / "broken.png").write_bytes(b"no photo")
    (folder / "photos" / "z.png").write_bytes((folder / "photos" / "a.png").read_bytes()[:500])
    result = run(folder, "--maps", "npy")
    assert result.exit_code == 1
    assert "2 of 6 photos could not be explained" in result.stderr.replace("\n", " ")
    errors = {row["path"]: row["error"] for row in index(folder) if row["error"]}
    assert "no image in a known format" in errors["broken.png"]
    assert "corrupt or truncated" in errors["z.png"]
    assert all(row["file"] is None for row in index(folder) if row["error"])
    shutil.copy(folder / "photos" / "a.png", folder / "photos" / "broken.png")
    result = run(folder, "--maps", "npy")
    assert "6 photos: 1 explained, 4 were there" in result.output
    assert result.exit_code == 1
    assert [row["path"] for row in index(folder) if row["error"]] == ["z.png"]


def test_other_settings_are_refused(folder):
    assert run(folder, "--maps", "npy").exit_code == 0
    for arguments, message in (
        (("--method", "gradient"), "method was 'rap' and is 'gradient'"),
        (("--target", "dog"), "targets was [] and is ['dog']"),
        (("--maps", "png"), "format was 'npy' and is 'png'"),
        (("--size", "32"), "preprocessing"),
    ):
        result = run(folder, "--maps", "npy", *arguments)
        assert result.exit_code == 1
        assert message in result.stderr.replace("\n", " ")
    (folder / "out" / JOURNAL).write_text("something else\n")
    assert "no journal of this version" in run(folder, "--maps", "npy").stderr.replace("\n", " ")


# --- manifests ----------------------------------------------------------------------------------------------------------------------


def test_a_manifest_names_photos_and_targets(folder):
    rows = "path,target\nphotos/a.png,dog\nphotos/a.png,cow\nphotos/a.png,dog\nphotos/sub/a.png,\nphotos/a.jpg,top:2\n"
    (folder / "list.csv").write_text("\ufeff" + rows, "utf-8")
    result = run(folder, photos=["list.csv"])
    assert result.exit_code == 0, result.output
    assert "named twice" in result.stderr
    found = index(folder)
    assert [(row["path"], row["target"]) for row in found] == [
        *[("photos/a.png", "dog"), ("photos/a.png", "cow"), ("photos/sub/a.png", None)],
        *[("photos/a.jpg", "top:2")] * 2,
    ]
    assert [row["class_name"] for row in found[:2]] == ["dog", "cow"]
    assert len({row["file"] for row in found}) == 4
    assert all(row["file"].endswith(".safetensors") and (folder / "out" / row["file"]).is_file() for row in found)


def test_bad_rows_are_named_by_their_line_and_the_others_are_explained(folder):
    rows = ["path,target", "photos/a.png,dog", "photos/none.png,", "photos/a.png,dgo", ",dog", "photos/a.png,dog,3", "m.py,"]
    (folder / "list.csv").write_text("\n".join([*rows, '"photos/sub/a.png",1']))
    result = run(folder, photos=["list.csv"])
    assert result.exit_code == 1
    assert "5 of 7 photos could not be explained" in result.stderr.replace("\n", " ")
    errors = [row["error"] for row in index(folder) if row["error"]]
    expected = {
        3: "no file",
        4: "Did you mean 'dog'",
        5: "names no photo",
        6: "more values than there are columns",
        7: "no image",
    }
    for (line, message), error in zip(expected.items(), errors, strict=True):
        assert f"list.csv line {line}: " in error
        assert message in error
    assert [row["class_name"] for row in index(folder) if not row["error"]] == ["dog", "dog"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"photo,target\na.png,1\n", "has no column 'path'"),
        (b"", "has no column 'path'"),
        (b"path,target,weight\na.png,1,2\n", "takes 'path' and 'target'"),
        (b"path\n\xff\xfe\n", "no text in UTF-8"),
        (b'path\n"a.png\n', "no CSV that can be read"),
        (b"path\n", "no photo to explain"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(folder, content, message):
    (folder / "list.csv").write_bytes(content)
    result = run(folder, photos=["list.csv"])
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", " ")
    assert not (folder / "out").exists()


# --- names and places -----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_hostile_names(folder):
    photos = folder / "hostile"
    odd = [
        "-o.png",
        "a\nb.png",
        "a:b.png",
        "\x1b[31m.png",
        "A.PNG",
        "a.png",
        "ü" * 120 + ".png",
        os.fsdecode(b"caf\xe9.png"),
        "index.parquet.png",
    ]
    (photos / "..sub" / "a.png.npy").mkdir(parents=True)
    save_photos(photos, "plain.png")
    for name in (*odd, "..sub/a.png", "..sub/a.png.npy/b.png"):
        shutil.copy(photos / "plain.png", photos / name)
    result = run(folder, "--maps", "npy", photos=["hostile"])
    assert result.exit_code == 1, "a map's file and a folder have one name"
    assert "\x1b[31m" not in result.output
    found = index(folder)
    assert sum(row["error"] is not None for row in found) == 1
    written = [row["file"] for row in found if row["file"]]
    assert len({name.casefold() for name in written}) == len(written) == 11
    assert all((folder / "out" / name).resolve().is_relative_to((folder / "out" / "maps").resolve()) for name in written)
    assert r"caf\udce9.png" in [row["path"] for row in found]
    assert "1 explained" not in run(folder, "--maps", "npy", photos=["hostile"]).output


def test_a_manifest_cannot_write_outside_of_the_folder(folder):
    (folder / "lists").mkdir()
    (folder / "lists" / "list.csv").write_text(f"path\n../photos/a.png\n{folder}/photos/a.png\n")
    assert run(folder, photos=["lists/list.csv"]).exit_code == 0
    assert all(row["file"].startswith("maps/") and ".." not in row["file"] for row in index(folder))
    assert names(folder / "lists") == ["list.csv"]


def test_maps_are_no_photos_of_the_next_run(folder):
    for _ in range(2):
        assert run(folder, "--maps", "png", output="photos").exit_code == 0
        assert len(index(folder, "photos")) == 4


def test_several_folders_keep_their_names_apart(folder):
    assert run(folder, "--maps", "npy", photos=["photos", "photos/sub"]).exit_code == 0
    assert len({row["path"] for row in index(folder)}) == 4, "one photo under one name"


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_computed(folder):
    (folder / "file").write_text("")
    assert "a file, where a folder was expected" in run(folder, "--maps", "npy", output="file").stderr.replace("\n", " ")
    if sys.platform == "linux":
        assert "cannot be made" in run(folder, "--maps", "npy", output="/proc/nix").stderr.replace("\n", " ")
    if hasattr(os, "geteuid") and os.geteuid():
        (folder / "out").mkdir(mode=0o500)
        assert "cannot be written" in run(folder, "--maps", "npy").stderr


def test_a_folder_is_written_by_one_process(folder):
    from filelock import FileLock

    (folder / "out").mkdir()
    with FileLock(folder / "out" / ".lock"):
        assert "Another process is writing" in run(folder, "--maps", "npy").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--maps", "npy", "--overlap", "0.5"), "goes with --tiles"),
        (("--maps", "gif"), "--maps takes safetensors, npy, png, not gif"),
        (("--maps", "npy", "--outline", "--json"), "leave out --json, --outline"),
        (("--maps", "npy", "--html", "x.html"), "leave out --output, --maps"),
        (("--maps", "npy", "--method", "rapp"), "Did you mean 'rap'"),
        (("--maps", "npy", "--tiles", "2", "--overlap", "2"), "from 0 to 0.9"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(folder, arguments, message):
    result = run(folder, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", " ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "out").exists()


def test_options_of_runs_go_with_maps(folder):
    assert "goes with --maps" in run(folder, "--num-workers", "2", photos=["photos/a.png"]).stderr
    assert "goes with --maps" in run(folder, "--batch-size", "2", photos=["photos/a.png"]).stderr


def test_a_folder_must_be_named(folder):
    call = ["explain", str(folder / "photos"), "--model", f"{folder}/m.py:small", "--maps", "npy"]
    assert "name it with --output" in CliRunner().invoke(app, call).stderr


def test_a_missing_extra_is_named(folder, monkeypatch):
    for name in [name for name in sys.modules if name in {"relprop.cli.many", "relprop.cli.journal"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install "relprop[evaluate]"' in run(folder, "--maps", "npy").stderr.replace("\n", " ")


def test_photos_are_read_a_bounded_number_ahead():
    from relprop.cli.ahead import ahead

    begun = []
    found = ahead(lambda item: begun.append(item) or item * 2, range(100), 3)
    for _ in range(5):
        item, result = next(found)
        assert result() == item * 2
        assert len(begun) <= item + 8
    found.close()


# --- tiles ----------------------------------------------------------------------------------------------------------------------------


def test_a_photo_in_tiles(folder):
    Image.new("RGB", (200, 90), "green").save(folder / "wide.png")
    result = run(folder, "--tiles", "3", "--npy", "--json", photos=["wide.png"])
    assert result.exit_code == 0, result.output
    relevance = np.load(folder / "out" / "wide-rap.npy")
    assert relevance.shape == (3, 48, 107), "24 + 2 · 12 pixels, in the shape of the photo"
    record = json.loads((folder / "out" / "wide-rap.json").read_text())
    assert record["tiles"][0]["box"] == [0, 0, 24, 24]
    assert record["tiles"][-1]["box"] == [83, 24, 107, 48]
    assert len(record["tiles"]) == 3 * 8
    assert any("24 tiles of 24×24" in text for text in record["notes"])
    assert {tuple(entry["box"])[1] for entry in record["tiles"]} == {0, 12, 24}


@pytest.mark.parametrize("targets", [("dog",), ("dog", "cow"), ("top:2",), ("contrast:dog,cow",)])
def test_tiles_take_targets(folder, targets):
    asked = [word for target in targets for word in ("--target", target)]
    result = run(folder, "--maps", "npy", "--tiles", "2", "--overlap", "0", *asked)
    assert result.exit_code == 0, result.output
    row = index(folder)[0]
    several = () if targets in {("dog",), ("contrast:dog,cow",)} else (2,)
    assert np.load(folder / "out" / row["file"]).shape == (*several, 3, 48, 60)
    assert any("tiles of 24×24" in text for text in row["notes"])


def test_what_does_not_go_with_tiles_is_refused(folder):
    for arguments, message in (
        (("--against", "dog"), "leave out --against"),
        (("--target", "dog", "--target", "top:2"), "top:K stands alone"),
        (("--target", "neuron:classifier,1x2"), "names a place"),
        (("--tiles", "100000"), "take fewer tiles"),
    ):
        result = run(folder, "--tiles", "2", *arguments, photos=["photos/a.png"])
        assert result.exit_code == 1
        assert message in result.stderr.replace("\n", " "), result.stderr
