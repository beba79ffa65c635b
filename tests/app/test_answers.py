"""What the page shows after each step, without a browser."""

import base64
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.app.serving import huge_bytes, make_desk, photo_bytes

pytest.importorskip("gradio", reason="the extra app is not installed")

from relprop.app.answers import NO_LAYER, PARTS, Answers
from relprop.app.desk import Choice
from relprop.app.photos import Upload
from relprop.app.sessions import Sessions

ANNA, BERT = SimpleNamespace(session_hash="anna"), SimpleNamespace(session_hash="bert")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("models"))


@pytest.fixture
def answers(desk):
    return Answers(desk, Sessions(), samples={"a sample": Upload("sample.png", photo_bytes(7))})


def event(**data):
    return SimpleNamespace(_data=data)


def drop(answers, request=ANNA, name="cat.png", content=None, methods=("rap",)):
    data = base64.b64encode(photo_bytes() if content is None else content).decode()
    return shown(answers.photo(event(name=name, data=data), request, "small net", list(methods), NO_LAYER))


def shown(answer):
    assert len(answer) == len(PARTS)
    return {name: value for name, value in zip(PARTS, answer, strict=True) if value != {"__type__": "update"}}


def heat(html):
    """The values of the first map."""
    rows, columns, data = re.search(r'data-rows="(\d+)" data-columns="(\d+)" data-values="([^"]+)"', html).groups()
    return np.frombuffer(base64.b64decode(data), "<f4").reshape(int(rows), int(columns))


def test_a_drop_changes_every_part(answers):
    found = drop(answers)
    assert set(found) == set(PARTS)
    session = answers.sessions.of("anna")
    view = answers.desk.maps(session, Choice("small net", ("rap",)))[0].view
    assert np.array_equal(heat(found["viewer"]), view.heatmap.astype("<f4"))
    best = found["target"]["value"]
    assert found["target"]["choices"][0][1] == best
    assert sorted(index for _, index in found["target"]["choices"]) == [0, 1, 2, 3]
    assert f'data-class="{best}" aria-pressed="true"' in found["classes"]
    assert "cat.png" in found["drop"]
    assert 'alt="Heat map of rap for' in found["viewer"]
    assert "relprop.zoo.load(" in found["code"]


def test_a_sample_is_taken_by_its_title_alone(answers):
    assert "sample.png" in shown(answers.sample(event(name="a sample"), ANNA, "small net", ["rap"], NO_LAYER))["drop"]
    wrong = shown(answers.sample(event(name="/etc/passwd"), ANNA, "small net", ["rap"], NO_LAYER))
    assert list(wrong) == ["news"]
    assert "There is no such sample." in wrong["news"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no image at all", "is no image in a known format"),
        (photo_bytes()[:-3000], "is corrupt or truncated"),
        (b"", "is empty"),
        (huge_bytes(), "has 50 million pixels, and 40 million are accepted"),
    ],
    ids=["text", "truncated", "empty", "huge"],
)
def test_what_cannot_be_read_is_a_sentence_and_nothing_else_changes(answers, content, sentence):
    drop(answers)
    wrong = drop(answers, name="bad.png", content=content)
    assert list(wrong) == ["news"]
    assert sentence in wrong["news"]
    assert 'role="alert"' in wrong["news"]
    assert answers.sessions.of("anna").upload.name == "cat.png"


def test_methods_and_classes_change_the_maps(answers):
    drop(answers)
    found = shown(answers.again(ANNA, "small net", ["rap", "grad-cam", "rollout"], 2, NO_LAYER))
    assert re.findall(r'rp-map" data-method="([^"]+)"', found["viewer"]) == ["rap", "grad-cam"]
    assert found["viewer"].count("rp-wrong") == 1
    assert "horse" in found["news"]
    assert "drop" not in found
    chosen = shown(answers.choose(event(index=3), ANNA, "small net", ["rap"], NO_LAYER))
    assert chosen["target"]["value"] == 3
    assert "No method is chosen" in shown(answers.again(ANNA, "small net", [], 2, NO_LAYER))["news"]


def test_a_layer_is_drawn_where_it_is_known(answers):
    drop(answers)
    found = shown(answers.again(ANNA, "small net", ["rap"], 1, "features.1"))
    assert "At the layer, 22×22" in found["viewer"]
    assert found["layer"]["value"] == "features.1"
    assert shown(answers.again(ANNA, "small net", ["grad-cam"], 1, "features.1"))["layer"]["value"] == NO_LAYER


def test_another_model_begins_with_its_own_class(answers):
    assert list(shown(answers.model(ANNA, "large net", ["rap"]))) == ["layer"]
    drop(answers)
    assert heat(shown(answers.model(ANNA, "large net", ["rap"]))["viewer"]).shape == (32, 32)


def test_a_region_and_a_table(answers):
    drop(answers)
    found = answers.region(event(method="rap", across=0.4, down=0.5), ANNA, "small net", ["rap"], 1)
    assert found.count("<tr>") == 5
    assert "<strong>dog</strong>" in found
    assert "important" in found
    assert "not on offer" in answers.region(event(method="lime", across=0.4, down=0.5), ANNA, "small net", ["rap"], 1)
    tables = answers.table(ANNA, "small net", ["rap", "gradient"], 1)
    assert "Worst deviation" in tables
    assert "nothing to trace" in tables


@pytest.mark.parametrize("kind", ["png", "npy", "py"])
def test_files_are_named_after_photo_method_and_class(answers, kind):
    drop(answers)
    _, text = answers.save(event(kind=kind, method="rap"), ANNA, "small net", ["rap"], 1, NO_LAYER, 0.7)
    file = json.loads(text)
    content = base64.b64decode(file["data"])
    assert file["name"] == f"cat-rap-1.{kind}"
    assert content.startswith({"png": b"\x89PNG", "npy": b"\x93NUMPY", "py": b"import relprop"}[kind])


def test_no_other_file_is_made(answers):
    drop(answers)
    for data in ({"kind": "exe", "method": "rap"}, {"kind": "npy", "method": "../x.toml"}, {}):
        news, text = answers.save(event(**data), ANNA, "small net", ["rap"], 1, NO_LAYER, 0.7)
        assert text == ""
        assert "rp-wrong" in news


def test_sessions_do_not_mix(answers):
    drop(answers, ANNA, "anna.png", photo_bytes(1))
    drop(answers, BERT, "bert.png", photo_bytes(2))
    for request, mine, other in ((ANNA, "anna.png", "bert.png"), (BERT, "bert.png", "anna.png")):
        found = shown(answers.again(request, "small net", ["epsilon-plus"], 0, NO_LAYER))
        assert mine in found["viewer"]
        assert other not in found["viewer"] + found["code"]
    answers.forget(ANNA)
    assert "no photo yet" in shown(answers.again(ANNA, "small net", ["rap"], 0, NO_LAYER))["news"]


def test_markup_in_names_is_shown_and_not_obeyed(answers):
    evil = '<img src=x onerror=alert(1)>${alert(1)}{{x}}".png'
    found = drop(answers, name=evil)
    for part in ("drop", "viewer", "news"):
        assert "<img src=x" not in found[part]
        assert "${" not in found[part]
        assert "{{" not in found[part]


@pytest.mark.parametrize("data", [None, [], "text", {"name": 1, "data": {"path": "/etc/passwd"}}, {"data": ["a"]}])
def test_events_of_any_shape_are_answered(answers, data):
    odd = SimpleNamespace(_data=data)
    assert "rp-wrong" in shown(answers.photo(odd, ANNA, "small net", ["rap"], NO_LAYER))["news"]
    assert "rp-wrong" in answers.region(odd, ANNA, "small net", ["rap"], 1)
