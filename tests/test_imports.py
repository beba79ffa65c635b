"""The order of the stages: a folder imports only the folders below it, and no module imports itself by way of others."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.files import ROOT

SOURCE = ROOT / "src"
ORDER = [
    ["context", "draws", "errors", "extras", "lazy", "meaning", "version"],
    ["files", "text", "options", "heads"],
    ["targets"],
    ["inputs"],
    ["images"],
    ["ops"],
    ["graph"],
    ["rules"],
    ["viz"],
    ["explanation", "pages", "precision"],
    ["propagation"],
    ["attribution"],
    ["methods"],
    ["captured", "streaming", "tiling"],
    ["plans"],
    ["explainer"],
    ["concepts"],
    ["zoo"],
    ["datasets", "metrics"],
    ["integrations"],
    ["evaluation"],
    ["app"],
    ["cli"],
    ["__init__", "__main__"],
]
"""The rooms of the top level, from the bottom; rooms on one line do not import each other."""
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms}
INNER = [
    ["results", "presets"],
    ["settings"],
    ["compute"],
    ["mosaics"],
    ["prepare"],
    ["report"],
    ["run"],
    ["papers"],
]
"""The rooms of the evaluation, likewise."""


def modules():
    """Every module by its dotted name."""
    paths = sorted((SOURCE / "relprop").rglob("*.py"))
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(name, path, known):
    """The modules of ours that a module imports, at its top, inside functions and for types alike."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    ours = {entry if entry in known else entry.rpartition(".")[0] for entry in found if entry.split(".")[0] == "relprop"}
    return (ours & known.keys()) - {name}


def graph():
    known = modules()
    return {name: imported(name, path, known) for name, path in known.items()}


def room_of(name):
    return name.split(".")[1] if "." in name else "__init__"


def test_every_room_has_its_place():
    top = {path.stem for path in (SOURCE / "relprop").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert top == set(HEIGHT)


def test_a_room_imports_only_the_rooms_below_it():
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if room_of(name) != room_of(other) and HEIGHT[room_of(other)] >= HEIGHT[room_of(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rooms_of_the_evaluation_import_only_those_below_them():
    height = {room: number for number, rooms in enumerate(INNER) for room in rooms}

    def inner(name):
        return name.split(".")[2] if name.startswith("relprop.evaluation.") else None

    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if inner(name) and inner(other) and inner(name) != inner(other) and height[inner(other)] >= height[inner(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_a_circle_would_be_found(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.py").write_text(f"def late():\n    from relprop.{other} import thing\n")
    known = {f"relprop.{name}": tmp_path / f"{name}.py" for name in ("a", "b")}
    assert imported("relprop.a", Path(known["relprop.a"]), known) == {"relprop.b"}
    with pytest.raises(CycleError):
        TopologicalSorter({name: imported(name, path, known) for name, path in known.items()}).prepare()
