"""Every method of the registry on every kind of target: a finite map, or one sentence that says why there is none."""

import pytest
import torch

import relprop
from relprop.errors import OptionError, TargetError, UnsupportedOpError
from relprop.methods import METHODS
from relprop.targets import Binary, Contrast, Neuron, Output, Pixels, Similarity
from tests.targets.networks import X, classifier, segmentation

FEW = {
    "rise": {"masks": 8, "score": "logit"},
    "lime": {"samples": 20, "count": 4},
    "kernel-shap": {"samples": 20, "count": 4},
    "integrated-gradients": {"steps": 4},
    "expected-gradients": {"samples": 4},
    "smoothgrad": {"samples": 4},
    "vargrad": {"samples": 4},
}
TARGETS = (Contrast(), Output(1, reference=0.5), Binary(2), Similarity(torch.ones(5)), Neuron("2", 1))
COMPARING = {"clrp", "sglrp", "abslrp", "finer-cam"}
"""The methods that set a class against others."""


@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_every_target(name):
    for model, targets in ((classifier(), TARGETS), (segmentation(), (Pixels(2),))):
        captured = relprop.capture(model, X)
        try:
            explainer = captured.explainer(name, **FEW.get(name, {}))
        except (UnsupportedOpError, OptionError) as error:
            pytest.skip(f"not for these networks: {error}")
        for target in targets:
            if name in COMPARING and (name == "finer-cam" or not isinstance(target, Pixels)):
                with pytest.raises(TargetError, match=r"compares|explains classes"):
                    explainer(X, target)
                continue
            found = explainer(X, target)
            assert bool(found.relevance.isfinite().all())
            assert found.value is not None
            assert len(found.words) == len(X)
