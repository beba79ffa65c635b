"""The work behind the page, without the page: maps, regions, layers, tables and files agree with the library."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import relprop
from relprop.app.desk import REACH, TOP, Choice, disc
from relprop.app.photos import Limits, Upload
from relprop.app.sessions import Session, Sessions
from relprop.errors import InputError, OptionError
from tests.app.serving import huge_bytes, make_desk, photo_bytes

SMALL = Choice("small net", ("rap",))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("models"))


@pytest.fixture
def session(desk):
    found = Session()
    desk.open(found, Upload("noise.png", photo_bytes()), "small net")
    return found


def explained(desk, session, method, target, layers=()):
    prepared = desk.prepared(session, "small net")
    return desk.models["small net"].captured.explainer(method)(prepared.inputs, target, layers=list(layers))


def test_maps_are_those_of_the_library(desk, session):
    maps = desk.maps(session, Choice("small net", ("rap", "epsilon-plus", "rollout"), target=2))
    for one in maps[:2]:
        expected = explained(desk, session, one.method, 2).heatmap()[0].numpy()
        assert np.array_equal(one.view.heatmap, expected)
        assert one.view.photo.shape == (24, 24, 3)
    assert maps[2].view is None
    assert "rollout" in maps[2].reason


def test_the_predicted_class_is_explained_at_first(desk, session):
    prepared = desk.prepared(session, "small net")
    assert desk.target(session, SMALL) == int(prepared.logits.argmax()) == prepared.ranked[0]
    assert torch.allclose(prepared.probabilities, prepared.logits.softmax(0))


def test_a_region_sums_the_maps_of_several_classes(desk, session):
    found = desk.region(session, Choice("small net", ("epsilon-plus",), target=3), "epsilon-plus", 0.3, 0.6)
    assert len(found.shares) == min(TOP, 4)
    assert [share.relevance for share in found.shares] == sorted((share.relevance for share in found.shares), reverse=True)
    assert [share.name for share in found.shares if share.explained] == ["cow"]
    maps = explained(desk, session, "epsilon-plus", torch.tensor([[0, 1, 2, 3]])).heatmap()[0].numpy()
    for share in found.shares:
        one = maps[["tabby", "dog", "horse", "cow"].index(share.name)].astype(np.float64)
        total = sum(
            one[row, column]
            for row in range(24)
            for column in range(24)
            if (row + 0.5 - 0.6 * 24) ** 2 + (column + 0.5 - 0.3 * 24) ** 2 <= (REACH * 24) ** 2
        )
        assert share.relevance == pytest.approx(total, rel=1e-5, abs=1e-9)
        assert share.part == pytest.approx(total / np.abs(one).sum(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("point", [(0.0, 0.0), (1.0, 1.0), (0.99, 0.01)])
@pytest.mark.parametrize("shape", [(24, 24), (1, 1), (3, 40)])
def test_a_disc_holds_the_cell_under_the_point(shape, point):
    inside = disc(shape, *point)
    assert inside.shape == shape
    assert inside[min(int(point[1] * shape[0]), shape[0] - 1), min(int(point[0] * shape[1]), shape[1] - 1)]


def test_layers_are_shown_where_the_method_has_them(desk, session):
    known = desk.layers("small net", ("grad-cam", "rap"))
    assert "features.1" in known
    assert desk.layers("small net", ("grad-cam",)) == []
    maps = desk.maps(session, Choice("small net", ("rap", "grad-cam"), 1, "features.1"))
    expected = explained(desk, session, "rap", 1, ["features.1"]).layers["features.1"][0].sum(0).numpy()
    assert np.array_equal(maps[0].layer.heatmap, expected)
    assert maps[1].layer == "Method grad-cam gives relevance to inputs only."


def test_the_table_is_the_trace_and_prints_nothing(desk, session, capsys):
    found = desk.trace(session, SMALL, "rap")
    assert capsys.readouterr().out == ""
    logit = float(desk.prepared(session, "small net").logits.max())
    assert float(found.rows[0].received[0]) == pytest.approx(logit, rel=1e-5)
    with pytest.raises(OptionError, match="nothing to trace"):
        desk.trace(session, SMALL, "gradient")


def test_files_hold_the_picture_and_the_raw_relevance(desk, session):
    choice = Choice("small net", ("rap",), 1)
    picture = Image.open(BytesIO(desk.png(session, choice, "rap", 0.5)))
    assert picture.format == "PNG"
    assert picture.width > 500
    assert np.array_equal(desk.array(session, choice, "rap"), explained(desk, session, "rap", 1).relevance[0].numpy())
    assert desk.file_name(session, choice, "rap", ".npy") == "noise-rap-1.npy"


def test_the_code_makes_the_same_map(desk, session, tmp_path, monkeypatch):
    choice = Choice("small net", ("rap",), 1, "features.1")
    (tmp_path / "noise.png").write_bytes(photo_bytes())
    monkeypatch.chdir(tmp_path)
    shown = desk.array(session, choice, "rap")
    names = {}
    exec(desk.code(session, choice, "rap").replace("'noise.png', images", "'picture.png', images"), names)
    assert np.array_equal(np.load("noise.npy")[0], shown)
    assert list(names["explanation"].layers) == ["features.1"]
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_code_of_odd_names_is_harmless(desk):
    session = Session()
    desk.open(session, Upload('it\'s "odd".png', photo_bytes()), "small net")
    text = desk.code(session, SMALL, "rap")
    compile(text, "code", "exec")
    assert repr('it\'s "odd".png') in text


def test_an_explanation_is_computed_once(desk, session, monkeypatch):
    desk.maps(session, SMALL)
    monkeypatch.setattr(relprop.Explainer, "forward", lambda *_, **__: pytest.fail("computed again"))
    desk.maps(session, SMALL)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("small net", ()), "No method is chosen"),
        (Choice("/etc/passwd", ("rap",)), "The model '/etc/passwd' is not on offer here"),
        (Choice("small net", ("rap",), 7), "There is no class 7; the model has 4"),
    ],
)
def test_wrong_choices_are_sentences(desk, session, choice, message):
    with pytest.raises(OptionError, match=message):
        desk.maps(session, choice)


def test_a_method_that_is_not_on_offer_is_not_run(desk, session):
    (one,) = desk.maps(session, Choice("small net", ("lime",)))
    assert one.reason == "The method 'lime' is not on offer here."
    with pytest.raises(OptionError, match="not on offer"):
        desk.array(session, SMALL, "/tmp/method.toml")


def test_a_broken_or_huge_photo_leaves_the_last_one(desk, session):
    for content in (b"no image", photo_bytes()[:200], b"", huge_bytes()):
        with pytest.raises(InputError):
            desk.open(session, Upload("bad.png", content), "small net")
    assert session.upload.name == "noise.png"
    with pytest.raises(InputError, match="no photo yet"):
        desk.maps(Session(), SMALL)


def test_a_drop_decodes_the_photo_once(desk, monkeypatch):
    decoded = []
    whole = Upload.photo
    monkeypatch.setattr(Upload, "photo", lambda upload, limits: decoded.append(upload.name) or whole(upload, limits))
    session = Session()
    desk.open(session, Upload("noise.png", photo_bytes(size=(500, 400))), "small net")
    desk.maps(session, SMALL)
    assert decoded == ["noise.png"]
    assert session.thumbnail.size == (192, 154)


def test_a_model_that_is_not_on_offer_sees_nothing(desk):
    session = Session()
    with pytest.raises(OptionError, match="not on offer"):
        desk.open(session, Upload("noise.png", photo_bytes()), "other net")
    assert session.upload.name == "noise.png"


def test_another_model_sees_the_photo_its_own_way(desk, session):
    assert desk.prepared(session, "small net").cropped.size == (24, 24)
    assert desk.prepared(session, "large net").cropped.size == (32, 32)


def test_a_model_needs_its_number_of_class_names(tmp_path):
    desk = make_desk(tmp_path)
    served = desk.models["small net"]
    served.loaded = relprop.zoo.LoadedModel(served.loaded.model, served.loaded.preprocessing, ("one", "two"), "small")
    with pytest.raises(InputError, match="2 class names for a model of 4 classes"):
        served.warm_up("rap")


def test_sessions_are_apart_and_forgotten():
    sessions = Sessions()
    sessions.of("a").notes = ("mine",)
    assert sessions.of("b").notes == ()
    assert sessions.of("a").notes == ("mine",)
    sessions.forget("a")
    sessions.forget("never there")
    assert sessions.of("a").notes == ()
    for number in range(100):
        sessions.of(str(number))
    assert len(sessions) == 64


def test_limits_are_of_bytes():
    assert Limits(megabytes=1.5).bytes == 1_500_000
