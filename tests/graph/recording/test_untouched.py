"""A capture never touches the user's model: from any number of threads, when it fails, and with hooks."""

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

import relprop
from relprop.errors import RelpropError
from relprop.graph.recording.hooks import observes
from relprop.targets import Neuron
from relprop.zoo import import_torchvision


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 5)).eval()


def state(model: nn.Module) -> list[object]:
    """Everything of a model, and of torch's global state, that a capture could change."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [
        [(name, type(t), id(t), t._version, t.data_ptr(), t.requires_grad) for name, t in tensors],
        [(id(m), m.training, list(m._forward_hooks), list(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()],
        [torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")],
        torch.random.get_rng_state().tolist(),
        torch.backends.mha.get_fastpath_enabled(),
    ]


def test_eight_threads_explain_one_model_while_others_predict():
    model, images = network(), [torch.randn(2, 3, 12, 12) for _ in range(8)]
    expected = [relprop.explain(model, x, 1, method="lrp-epsilon").relevance for x in images]
    logits, before, failures = [model(x).detach() for x in images], state(model), list[str]()
    done = threading.Event()

    def explain(k: int) -> None:
        try:
            if not torch.equal(relprop.explain(model, images[k], 1, method="lrp-epsilon").relevance, expected[k]):
                failures.append(f"map {k} differs")
        except BaseException as error:
            failures.append(repr(error))

    def predict(k: int) -> None:
        while not done.is_set():
            if not torch.allclose(model(images[k]), logits[k]):
                failures.append(f"prediction {k} differs")

    predicting = [threading.Thread(target=predict, args=(k,)) for k in range(2)]
    explaining = [threading.Thread(target=explain, args=(k,)) for k in range(8)]
    for thread in [*predicting, *explaining]:
        thread.start()
    for thread in explaining:
        thread.join()
    done.set()
    for thread in predicting:
        thread.join()
    assert not failures
    assert state(model) == before


@pytest.mark.parametrize("training", [False, True])
def test_model_and_global_state_stay_as_they_were(training):
    model = network().train(training)
    before = state(model)
    relprop.explain(model, torch.zeros(2, 3, 12, 12), 1)
    assert state(model) == before


class Interrupted(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.layer, self.error = network(), error

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.layer(x)
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), SystemExit(3)])
def test_a_capture_that_fails_leaves_no_trace(error):
    model = Interrupted(error).eval()
    before = state(model)
    with pytest.raises((type(error), RelpropError)):
        relprop.explain(model, torch.zeros(2, 3, 12, 12))
    assert state(model) == before
    assert type(torch.ones(2) + 1) is Tensor


def test_hooks_that_look_on_are_not_called():
    model, bank, features = network(), list[Tensor](), dict[str, Tensor]()
    model[1].register_forward_hook(lambda module, args, out: bank.append(out))

    def collect(_module: nn.Module, _args: object, out: Tensor) -> None:
        features["relu"] = out.detach()

    model[2].register_forward_hook(collect)
    model[4].register_forward_pre_hook(lambda module, args: bank.extend(args))
    relprop.explain(model, torch.zeros(2, 3, 12, 12), 1)
    assert not bank
    assert not features


def _writes_to_output(_module: nn.Module, _args: object, out: Tensor) -> None:
    out[:, 0] = 0


def _in_place(_module: nn.Module, _args: object, out: Tensor) -> None:
    out.mul_(2)


CHANGING = {"returned": lambda module, args, out: out * 3, "written": _writes_to_output, "in place": _in_place}


@pytest.mark.parametrize("name", CHANGING)
def test_hooks_that_change_the_output_are_part_of_the_model(name):
    model, x = network(), torch.randn(2, 3, 12, 12)
    model[1].register_forward_hook(CHANGING[name])
    explainer = relprop.Explainer(model, x, "gradient")
    torch.testing.assert_close(explainer.logits(x), model(x).detach())


def test_what_a_hook_does_is_read_from_its_code():
    class Collector:
        def __init__(self) -> None:
            self.seen: list[object] = []

        def keep(self, module: object, _args: object, out: object) -> None:
            self.last = out
            self.seen.append((module, out))

        def __call__(self, _module: object, _args: object, out: object) -> None:
            self.seen.append(out)

    assert observes(Collector().keep)
    assert observes(Collector())
    assert observes(lambda module, args, out: None)
    assert not observes(lambda module, args, out: out)
    assert not observes(lambda module, args, out: setattr(module, "seen", out))
    assert not observes(CHANGING["written"])
    assert not observes(print)


def test_hooks_by_which_a_backbone_collects_its_hidden_states():
    import_torchvision()
    from transformers import Dinov2Backbone, Dinov2Config

    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 8, "num_attention_heads": 2}
    backbone = Dinov2Backbone(Dinov2Config(**sizes, num_hidden_layers=2, out_features=["stage1", "stage2"])).double().eval()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        expected = backbone(images).feature_maps  # installs the hooks
    for index, features in enumerate(expected):
        explanation = relprop.explain(backbone, images, Neuron(None, 0), output=f"feature_maps.{index}")
        torch.testing.assert_close(explanation.logits, features)


def test_weights_that_hooks_and_parametrizations_compute():
    torch.manual_seed(0)
    layers = [nn.Flatten(), parametrizations.weight_norm(nn.Linear(12, 8)), nn.ReLU(), spectral_norm(nn.Linear(8, 4))]
    model, x = nn.Sequential(*layers).eval(), torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(relprop.Explainer(model, x).logits(x), model(x).detach())


class Remembering(nn.Module):
    """Keeps what it saw in attributes, lists and closures, and calls modules by ways of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.seen: list[Tensor] = []
        self.steps = {"second": self.second.forward}
        self.last = lambda x: self.third(x)  # noqa: PLW0108 - a closure
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.kept = self.first(x)
        self.seen.append(self.kept)
        return self.last(self.steps["second"](self.kept).relu())


def test_what_forward_writes_to_itself_is_written_to_the_shadow():
    model, x = Remembering().eval(), torch.randn(2, 4)
    before = state(model)
    explainer = relprop.Explainer(model, x, "lrp-epsilon")
    assert state(model) == before
    assert not model.seen
    assert float(model.count) == 0
    torch.testing.assert_close(explainer.logits(x), model(x).detach())
    assert {"first", "third"} <= set(explainer.plan.layers)
    assert {"first", "second", "third"} <= {step.path for step in explainer.plan.steps}


def test_no_tensor_of_a_capture_stays():
    import gc

    model, x = network(), torch.randn(2, 3, 12, 12)
    relprop.explain(model, x)

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(o, Tensor) for o in gc.get_objects())

    before = tensors()
    for method in ("rap", "gradient", "grad-cam"):
        relprop.explain(model, x, method=method)
    assert tensors() == before
