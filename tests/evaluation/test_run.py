"""A run in this process: what it computes, how it goes on, and what it refuses."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import relprop
from relprop.datasets import open_dataset
from relprop.errors import InputError, ModelError, OptionError, OutputError
from relprop.evaluation import Choice, Observer, choices, evaluate, models, read_maps
from relprop.evaluation.compute import loading as images
from relprop.evaluation.compute.engines import AHEAD
from relprop.evaluation.compute.loading import image_seed
from relprop.evaluation.compute.subject import load_model
from relprop.evaluation.results.store import locked
from relprop.evaluation.settings import from_mapping
from relprop.metrics import METRICS, metric
from relprop.zoo import Own, Preprocessing, load
from tests.evaluation.world import evaluation, identities, make_world, rows, settings, table


def close(left, right):
    """Whether two folders hold the same rows up to rounding."""
    for one, two in zip(rows(left), rows(right), strict=True):
        for name in ("scores", "statistics", "curves"):
            assert one[name].keys() == two[name].keys()
            for key in one[name]:
                np.testing.assert_allclose(one[name][key], two[name][key], rtol=2e-4, atol=2e-5, err_msg=f"{one['metric']} {key}")
        assert all(one[name] == two[name] for name in one if name not in {"scores", "statistics", "curves"})


class StopError(Exception):
    """Ends a run from inside."""


def stop_after(units):
    left = [units]

    def advance(*_):
        left[0] -= 1
        if not left[0]:
            raise StopError

    return Observer(advance=advance)


def test_rows_are_those_of_the_metrics_one_image_at_a_time(world):
    names = ("segmentation", "outside-inside", "lerf", "random-logit", "max-sensitivity", "conservation")
    evaluate(evaluation(world, methods=("rap",), metrics=names))
    loaded = load(f"{world / 'm.py'}:small")
    explainer = relprop.Explainer(loaded.model, torch.zeros(1, 3, 16, 16), "rap")
    dataset = open_dataset(f"folder:{world / 'images'}", masks=world / "masks")
    found = {(row["image"], row["metric"]): row for row in rows(world / "results")}
    assert len(found) == 10 * len(names)
    for sample in dataset.samples(loaded.preprocessing):
        inputs = sample.image[None]
        explanation = explainer(inputs)
        tensors = {
            "relevance": explanation.relevance,
            "absorbed": explanation.absorbed,
            "conserved": explanation.value if explanation.conserved is None else explanation.conserved,
            "target": explanation.target,
            "inputs": inputs,
            "mask": sample.object_mask()[None],
            "model": loaded.model,
            "explain": lambda x, target: explainer(x, target).relevance,
            "seeds": [image_seed(0, sample.id)],
        }
        for name in names:
            scores = metric(name).update(**tensors)
            row = found[sample.id, name]
            assert row["status"] == "ok"
            assert row["target"] == int(explanation.target)
            for key, value in scores.items():
                stored = row["scores"][key] if value.dim() == 1 else row["curves"][key]
                np.testing.assert_allclose(stored, value[0], rtol=2e-4, atol=2e-5)


def test_statistics_add_up_to_the_score_of_the_set(world):
    evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",)))
    found, spec = rows(world / "results"), METRICS["segmentation"]
    sums = {name: torch.tensor(np.sum([row["statistics"][name] for row in found], 0)) for name in found[0]["statistics"]}
    scores = {name: float(value) for name, value in spec.compute(sums).items()}
    hits = sum(row["statistics"]["true_positive"][0] + row["statistics"]["true_negative"][0] for row in found)
    assert scores["pixel_accuracy"] == pytest.approx(hits / (10 * 16 * 16))


def test_every_row_says_what_made_it(world):
    methods, metrics = ("rap:start=signed", "smoothgrad:samples=2"), ("segmentation:threshold=percentile:90", "gae")
    evaluate(evaluation(world, methods=methods, metrics=metrics, seed=3))
    found = rows(world / "results")
    assert {(row["method"], row["method_options"]) for row in found} == {
        ("rap", '{"start": "signed"}'),
        ("smoothgrad", '{"samples": 2}'),
    }
    assert {(row["metric"], row["metric_options"]) for row in found} == {
        ("segmentation", '{"threshold": "percentile:90"}'),
        ("gae", "{}"),
    }
    assert {row["seed"] for row in found} == {3}
    assert {row["relprop"] for row in found} == {relprop.__version__}
    assert {row["device"] for row in found} == {"cpu"}
    assert {row["weights"] for row in found} == {"pretrained"}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_rows_do_not_depend_on_the_batch_size(world, batch_size):
    names = ("segmentation", "gae", "random-removal", "sensitivity-n:samples=4", "cascading-randomization:count=1")
    chosen = {"methods": ("rap", "smoothgrad:samples=3"), "metrics": (*names, "cosine-convergence"), "block": 8, "limit": 8}
    evaluate(evaluation(world, "eight", batch_size=8, **chosen))
    evaluate(evaluation(world, "other", batch_size=batch_size, **chosen))
    close(world / "eight", world / "other")


def test_images_are_read_only_a_little_ahead(world, monkeypatch):
    right, read, units = images.load, [], []

    def load_one(*arguments):
        read.append(arguments)
        return right(*arguments)

    def advance(*_):
        units.append(len(read))

    monkeypatch.setattr(images, "load", load_one)
    make_world(world, 40)
    evaluate(evaluation(world, methods=("gradient",), metrics=("complexity",)), Observer(advance=advance))
    assert len(read) == 40
    assert all(seen <= 4 * (done + AHEAD) for done, seen in enumerate(units, 1))


def test_rows_do_not_depend_on_their_company(world):
    evaluate(evaluation(world, "all", methods=("gradient", "rap"), metrics=("segmentation", "gae", "random-removal")))
    evaluate(evaluation(world, "one", methods=("rap",), metrics=("random-removal",)))
    alone = {row["image"]: row for row in rows(world / "one")}
    among = [row for row in rows(world / "all") if row["method"] == "rap" and row["metric"] == "random-removal"]
    assert {row["image"]: {k: v for k, v in row.items() if k != "seconds"} for row in among} == alone


def test_another_seed_draws_otherwise(world):
    for seed in (0, 1):
        evaluate(evaluation(world, f"seed{seed}", methods=("random", "rap"), metrics=("random-removal",), seed=seed))
    first, second = rows(world / "seed0"), rows(world / "seed1")
    assert all(one["curves"] != two["curves"] for one, two in zip(first, second, strict=True))


@pytest.mark.parametrize("units", [1, 2, 4])
def test_a_stopped_run_goes_on_and_ends_like_one_that_was_not(world, units):
    whole = evaluation(world, "whole")
    evaluate(whole)
    with pytest.raises(StopError):
        evaluate(evaluation(world, "stopped"), stop_after(units))
    before = identities(world / "stopped")
    assert 0 < len(before) < len(identities(world / "whole"))
    summary = evaluate(evaluation(world, "stopped"))
    assert summary.rows == len(identities(world / "whole")) - len(before)
    assert table(world / "stopped").equals(table(world / "whole"))
    assert evaluate(evaluation(world, "stopped")).rows == 0


def test_methods_metrics_and_models_may_be_added(world):
    evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",)))
    first = identities(world / "results")
    more = evaluation(world, model=("small", "other"), methods=("gradient",), metrics=("gae", "segmentation"))
    with pytest.raises(StopError):
        evaluate(more, stop_after(2))
    added = evaluate(evaluation(world, methods=("rap",), metrics=("segmentation", "gae")))
    assert added.rows == 2
    evaluate(more)
    evaluate(evaluation(world, "fresh", model=("small", "other"), methods=("rap", "gradient"), metrics=("segmentation", "gae")))
    missing = [one for one in identities(world / "fresh") if one[1] == "rap" and one[0].endswith("other")]
    assert identities(world / "results") == sorted(set(identities(world / "fresh")) - set(missing))
    assert set(first) <= set(identities(world / "results"))
    assert len(list((world / "results" / "parts").glob("*.parquet"))) == 3
    assert [entry["name"] for entry in settings(world / "results")["metrics"]] == ["segmentation", "gae"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed is 0 there and 1 now"),
        ({"limit": 5}, "limit is None there and 5 now"),
        ({"geometry": "resize"}, "geometry is 'model' there"),
        ({"block": 8}, "block is 4 there and 8 now"),
        ({"keep_maps": True}, "keep maps is False there"),
    ],
)
def test_a_folder_of_another_run_is_refused(world, change, said):
    evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",)))
    before = identities(world / "results")
    with pytest.raises(InputError, match=said):
        evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",), **change))
    assert identities(world / "results") == before


def test_other_images_are_refused(world):
    evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",)))
    for kind in ("images", "masks"):
        next((world / kind / "cat").iterdir()).unlink()
    with pytest.raises(InputError, match="had 10 images and now has 9"):
        evaluate(evaluation(world, methods=("rap",), metrics=("segmentation", "gae")))


def test_other_weights_are_refused(world):
    evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",)))
    path = world / "m.py"
    path.write_text(path.read_text().replace("return layers(), ", "return layers(seed=5), "))
    with pytest.raises(ModelError, match="now has other weights than when the run was started"):
        evaluate(evaluation(world, methods=("rap", "gradient"), metrics=("segmentation",)))


def test_random_weights_come_from_the_seed(world):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        evaluate(evaluation(world, name, model=("unseeded",), methods=("gradient",), metrics=("complexity",), seed=seed))
    assert table(world / "a").equals(table(world / "b"))
    assert [row["scores"] for row in rows(world / "a")] != [row["scores"] for row in rows(world / "c")]


def test_a_second_process_is_refused(world):
    with locked(world / "results"), pytest.raises(InputError, match="Another process is writing to"):
        evaluate(evaluation(world))


def test_an_unreadable_image_fails_for_every_metric_and_its_group(world):
    broken = world / "images" / "cow" / "001.png"
    broken.write_bytes(broken.read_bytes()[:60])
    summary = evaluate(evaluation(world, methods=("rap",), metrics=("segmentation", "gae", "complexity")))
    found = rows(world / "results")
    failed = [row for row in found if row["status"] == "failed"]
    names = open_dataset(f"folder:{world / 'images'}").ids
    place = names.index("cow/001.png")
    assert [(row["metric"], row["image"]) for row in failed] == [
        ("segmentation", "cow/001.png"),
        ("gae", names[place // 4 * 4]),
        ("complexity", "cow/001.png"),
    ]
    assert all("001.png" in row["reason"] and not row["scores"] for row in failed)
    assert len(found) == 10 + 2 + 10
    assert (summary.rows, summary.failed, len(summary.reasons)) == (22, 3, 3)


def test_the_images_that_make_no_group_are_told(world):
    told = []
    evaluate(evaluation(world, methods=("rap",), metrics=("gae",)), Observer(tell=told.append))
    assert told == ["gae: the last 2 of 10 images make no group of 4 and have no row."]
    assert [len(row["group"]) for row in rows(world / "results")] == [4, 4]


def failing_explainer(monkeypatch, fails):
    """Let every explanation of inputs for which `fails` says how raise that."""
    right = relprop.Explainer.forward

    def forward(self, inputs, *arguments, **named):
        error = fails(inputs)
        if error is not None:
            raise error
        return right(self, inputs, *arguments, **named)

    monkeypatch.setattr(relprop.Explainer, "forward", forward)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_the_batch_halves_where_the_memory_does_not_suffice(world, monkeypatch, error):
    whole = evaluation(world, "whole", methods=("rap",), metrics=("segmentation", "max-sensitivity"))
    evaluate(whole)
    failing_explainer(monkeypatch, lambda inputs: error if len(inputs) > 1 else None)
    told = []
    evaluate(replace(whole, output=world / "halved"), Observer(tell=told.append))
    close(world / "whole", world / "halved")
    name = f"{world / 'm.py'}:small × rap: The memory does not suffice for"
    assert told == [f"{name} 4 images at once; going on with 2.", f"{name} 2 images at once; going on with 1."]


def test_a_method_that_does_not_fit_even_one_image_is_left_out_and_tried_again(world, monkeypatch):
    with monkeypatch.context() as patch:
        failing_explainer(patch, lambda inputs: MemoryError())
        summary = evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",)))
    assert summary.left_out == {f"{world / 'm.py'}:small × rap": "The memory does not suffice for one image."}
    assert summary.rows == 0
    assert evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",))).rows == 10
    assert settings(world / "results")["left_out"] == []


def test_only_the_image_that_raises_fails(world, monkeypatch):
    whole = evaluation(world, "whole", methods=("rap",), metrics=("segmentation",))
    evaluate(whole)
    dataset, loaded = open_dataset(whole.data), load(f"{world / 'm.py'}:small")
    odd = next(iter(dataset.samples(loaded.preprocessing, ["cow/005.png"]))).image
    failing_explainer(
        monkeypatch, lambda inputs: ValueError("an odd image\nand more") if (inputs == odd).flatten(1).all(1).any() else None
    )
    evaluate(replace(whole, output=world / "results"))
    good, found = rows(world / "whole"), rows(world / "results")
    assert [row["reason"] for row in found if row["status"] == "failed"] == ["ValueError: an odd image"]
    assert [row["image"] for row in found] == [row["image"] for row in good]
    for one, two in zip(good, found, strict=True):
        assert two["image"] == "cow/005.png" or two["scores"] == pytest.approx(one["scores"], rel=1e-4)


def test_relevance_that_is_not_finite_fails(world, monkeypatch):
    right = relprop.Explainer.forward

    def forward(self, inputs, *arguments, **named):
        found = right(self, inputs, *arguments, **named)
        found.relevance[0, 0, 0, 0] = torch.nan
        return found

    monkeypatch.setattr(relprop.Explainer, "forward", forward)
    evaluate(evaluation(world, methods=("rap",), metrics=("segmentation",)))
    found = rows(world / "results")
    assert [row["status"] for row in found] == ["failed" if number % 4 == 0 else "ok" for number in range(10)]
    assert found[0]["reason"] == "The relevance has NaN or infinite values."


def test_what_cannot_be_explained_is_left_out_and_the_rest_runs(world):
    told = []
    chosen = evaluation(
        world, model=("no_rule", "small"), methods=("rap", "gradient"), metrics=("complexity", "cosine-convergence")
    )
    summary = evaluate(chosen, Observer(tell=told.append))
    odd, small = f"{world / 'm.py'}:no_rule", f"{world / 'm.py'}:small"
    assert set(summary.left_out) == {
        f"{odd} × rap",
        f"{odd} × gradient × cosine-convergence",
        f"{small} × gradient × cosine-convergence",
    }
    assert "digamma" in summary.left_out[f"{odd} × rap"]
    assert all(any(text.startswith(f"Left out: {name}. ") for text in told) for name in summary.left_out)
    assert {(row["model"], row["method"], row["metric"]) for row in rows(world / "results")} == {
        (odd, "gradient", "complexity"),
        (small, "gradient", "complexity"),
        (small, "rap", "complexity"),
        (small, "rap", "cosine-convergence"),
    }
    assert len(settings(world / "results")["left_out"]) == 3


def test_labels_are_explained_where_they_are_the_models_classes(world):
    chosen = evaluation(world, model=("small", "three"), methods=("gradient",), metrics=("segmentation",), target="label")
    summary = evaluate(chosen)
    assert summary.left_out == {
        f"{world / 'm.py'}:three × gradient": "The model has 3 classes and the data set 4; labels do not fit, and the names of the data "
        "set's classes are not all among the model's."
    }
    assert all(
        row["target"] == ("cat", "cow", "dog", "horse").index(row["image"].split("/")[0]) for row in rows(world / "results")
    )


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"data_options": {}}, InputError, "has neither masks nor boxes, which segmentation need"),
        ({"methods": choices("raq")}, OptionError, "Unknown method 'raq'"),
        ({"methods": choices("rap:strat=signed")}, OptionError, "has no option 'strat'"),
        ({"metrics": choices("segmentatoin")}, OptionError, "There is no metric 'segmentatoin'"),
        ({"metrics": choices("segmentation:limit=3")}, OptionError, "has no option 'limit'"),
        ({"models": models("resnet")}, OptionError, "There is no model 'resnet'"),
        ({"data": "vox:there"}, OptionError, "names no data set"),
    ],
)
def test_what_cannot_run_is_refused_at_once(world, more, error, said):
    with pytest.raises(error, match=said):
        evaluate(replace(evaluation(world), **more))
    assert not list(world.glob("results/parts/*"))


def test_boxes_stand_in_for_masks(world):
    boxes = {f"{path.parent.name}/{path.name}": [{"box": [2, 2, 12, 12]}] for path in (world / "images").rglob("*.png")}
    boxes.pop("cat/000.png")
    (world / "boxes.json").write_text(json.dumps(boxes))
    evaluate(evaluation(world, methods=("rap",), metrics=("outside-inside",), data_options={"boxes": str(world / "boxes.json")}))
    found = rows(world / "results")
    assert [row["status"] for row in found] == ["failed"] + ["ok"] * 9
    assert found[0]["reason"] == "cat/000.png has neither mask nor boxes."


def test_maps_are_kept(world):
    evaluate(evaluation(world, methods=("rap",), metrics=("gae",), keep_maps=True))
    loaded = load(f"{world / 'm.py'}:small")
    explainer = relprop.Explainer(loaded.model, torch.zeros(1, 3, 16, 16), "rap")
    dataset = open_dataset(f"folder:{world / 'images'}")
    maps = {image: values for _, image, values in read_maps(world / "results")}
    assert set(maps) == set(dataset.ids)
    for sample in dataset.samples(loaded.preprocessing):
        heat = explainer(sample.image[None]).relevance[0].sum(0).numpy()
        np.testing.assert_allclose(maps[sample.id], heat, atol=1e-3 * np.abs(heat).max())


def test_the_whole_image_is_resized(world):
    chosen = evaluation(world, methods=("rap",), metrics=("segmentation",), geometry="resize")
    evaluate(chosen)
    counted = sum(rows(world / "results")[0]["statistics"][name][0] for name in ("true_positive", "false_negative"))
    preprocessing = replace(load(f"{world / 'm.py'}:small").preprocessing, resize=(16, 16))
    sample = next(iter(open_dataset(chosen.data, masks=world / "masks").samples(preprocessing)))
    assert counted == int(sample.object_mask().sum())


def test_a_full_disk_is_one_sentence_and_nothing_is_half_written(world, monkeypatch):
    right, left = os.fsync, [11]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        right(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OutputError, match=r"No space left on device\. What was finished is kept; the same command goes on"):
            evaluate(evaluation(world))
    assert not [path for path in (world / "results").rglob(".*") if path.name != ".lock"]
    stored = len(identities(world / "results"))
    evaluate(evaluation(world, "whole"))
    assert evaluate(evaluation(world)).rows == len(identities(world / "whole")) - stored
    assert table(world / "results").equals(table(world / "whole"))


@pytest.mark.parametrize("name", ["lerf:fill=nope", "lerf:steps=0", "lerf:steps=x", "segmentation:ap=both"])
def test_a_metric_option_that_can_never_work_is_refused_before_the_first_image(world, name):
    with pytest.raises(OptionError, match=name.partition(":")[0]):
        evaluate(evaluation(world, metrics=(name,)))
    assert not (world / "results").exists()


def test_a_layer_that_the_model_lacks_leaves_the_metric_out(world):
    chosen = (*choices("complexity"), Choice("cascading-randomization", {"layers": ["nowhere"]}))
    summary = evaluate(replace(evaluation(world, methods=("rap",)), metrics=chosen))
    (reason,) = summary.left_out.values()
    assert reason == "The model has no layer 'nowhere' with parameters of its own."
    assert summary.good


def test_a_run_without_a_good_row_says_so(world):
    assert not evaluate(evaluation(world, methods=("grad-cam:layer=nope",), metrics=("complexity",))).good
    assert evaluate(evaluation(world, methods=("rap",), metrics=("complexity",))).good
    assert evaluate(evaluation(world, methods=("rap",), metrics=("complexity",))).good
    assert not evaluate(evaluation(world, methods=("grad-cam:layer=nope",), metrics=("complexity",))).good


def test_what_is_said_of_a_model_holds_in_evaluations(world):
    text = "\n\ndef reordered():\n    return layers(classes=5)\n"
    (world / "m.py").write_text((world / "m.py").read_text() + text)
    (world / "names.txt").write_text("horse\nant\ndog\ncow\ncat\n")
    own = Own(world / "names.txt", mean="0.5", std="0.25", size="16")
    chosen = evaluation(world, model=("reordered",), methods=("gradient",), metrics=("segmentation",), target="label", own=own)
    summary = evaluate(chosen)
    assert (summary.left_out, summary.failed) == ({}, 0)
    names = ("horse", "ant", "dog", "cow", "cat")
    assert all(row["target"] == names.index(row["image"].split("/")[0]) for row in rows(world / "results"))
    loaded = load_model(chosen.models[0], chosen)
    assert loaded.preprocessing == Preprocessing((16, 16), 16, mean=(0.5,) * 3, std=(0.25,) * 3)
    with pytest.raises(InputError, match=r"own|mean is '0.5' there and None now"):
        evaluate(replace(chosen, own=replace(own, mean=None)))
    in_file = from_mapping(
        {
            "data": "folder:x",
            "models": ["m"],
            "methods": ["rap"],
            "metrics": ["gae"],
            "output": "r",
            "mean": [0.5, 1, 2],
            "size": 24,
            "scale": "1/255",
            "labels": "names.txt",
            "activation": "sigmoid",
        }
    )
    assert in_file.own == Own(Path("names.txt"), "0.5,1,2", None, "1/255", "24", "sigmoid")
    with pytest.raises(OptionError, match="mean = True must be a text, a number or a list of numbers"):
        from_mapping({"mean": True})


def test_metrics_take_the_activation_of_the_head(world):
    text = "\n\ndef multi():\n    return nn.Sequential(*layers(), nn.Sigmoid()), Preprocessing((16, 16), 16)\n"
    (world / "m.py").write_text((world / "m.py").read_text() + text)
    found = {}
    for model in ("small", "multi"):
        evaluate(evaluation(world, model, model=(model,), methods=("gradient",), metrics=("morf:per_step=8:steps=2",)))
        found[model] = rows(world / model)
    for plain, multi in zip(found["small"], found["multi"], strict=True):
        curves = {name: dict(row["curves"]) for name, row in (("plain", plain), ("multi", multi))}
        logits = torch.tensor(curves["multi"]["logit_curve"])
        torch.testing.assert_close(torch.tensor(curves["multi"]["probability_curve"]), logits.sigmoid())
        assert curves["plain"]["logit_curve"] == pytest.approx(curves["multi"]["logit_curve"], rel=1e-4)


def test_a_failed_run_leaves_no_folder(world):
    with pytest.raises(ModelError, match="no callable 'nowhere'"):
        evaluate(evaluation(world, "deep/results", model=("nowhere",)))
    assert not (world / "deep").exists()


def test_evaluations_name_the_package_that_is_missing():
    code = "import sys; sys.modules['{}'] = None; import relprop; relprop.evaluation"
    for package in ("pyarrow", "filelock"):
        done = subprocess.run([sys.executable, "-c", code.format(package)], capture_output=True, text=True, check=False)
        assert f'needs the package {package}: pip install "relprop[evaluate]"' in done.stderr.splitlines()[-1]
