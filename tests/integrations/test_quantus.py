import numpy as np
import pytest
import torch

from relprop.errors import InputError, OptionError
from relprop.integrations.quantus import SET_LEVEL, quantus_metrics, quantus_scores, quantus_spec
from relprop.metrics.base import Metric
from tests.metrics.models import Net, explainer, images

quantus = pytest.importorskip("quantus", reason="Quantus is not installed")
NET = Net().float()
TARGET = torch.tensor([0, 1, 2])
INPUTS = images(0, count=3, size=16).float()
MASK = torch.zeros(3, 16, 16, dtype=torch.uint8)
MASK[:, 4:9, 4:9] = 1
TENSORS = {
    "relevance": explainer(NET)(INPUTS, TARGET),
    "inputs": INPUTS,
    "target": TARGET,
    "module": NET,
    "make_explain": explainer,
    "mask": MASK,
}
SMALL = {
    "TopKIntersection": {"k": 20},
    "FaithfulnessCorrelation": {"subset_size": 30, "nr_runs": 5},
    "FaithfulnessEstimate": {"features_in_step": 64},
    "PixelFlipping": {"features_in_step": 64},
    "Monotonicity": {"features_in_step": 64},
    "MonotonicityCorrelation": {"features_in_step": 64, "nr_samples": 3},
    "Infidelity": {"n_perturb_samples": 3},
    **{name: {"nr_samples": 3} for name in ("LocalLipschitzEstimate", "MaxSensitivity", "AvgSensitivity", "SmoothMPRT")},
    **{f"Relative{what}Stability": {"nr_samples": 3} for what in ("Input", "Output", "Representation")},
}
ONE_CHANNEL = {"IROF"}  # of this version, which cannot take color images


@pytest.mark.parametrize("name", sorted(set(quantus_metrics()) - SET_LEVEL - ONE_CHANNEL))
def test_every_metric_that_scores_images_gives_one_row_each(name: str) -> None:
    measured = Metric(quantus_spec(name, **SMALL.get(name, {})))
    (row,) = measured.update(**TENSORS).values()
    assert len(row) == 3
    assert row.isfinite().all()


def test_scores_are_those_of_quantus_called_by_hand() -> None:
    heat = TENSORS["relevance"].sum(1, keepdim=True).numpy()
    expected = quantus.PixelFlipping(features_in_step=64, disable_warnings=True)(
        model=NET, x_batch=INPUTS.numpy(), y_batch=TARGET.numpy(), a_batch=heat, channel_first=True
    )
    (rows,) = Metric(quantus_spec("PixelFlipping", features_in_step=64)).update(**TENSORS).values()
    assert np.allclose(rows.numpy(), expected)


def test_the_model_stays_as_it_is_when_its_copies_are_randomized() -> None:
    before = {name: value.clone() for name, value in NET.state_dict().items()}
    (rows,) = Metric(quantus_spec("MPRT")).update(**TENSORS).values()
    assert rows.shape[0] == 3
    assert all(torch.equal(value, before[name]) for name, value in NET.state_dict().items())


def test_metrics_of_a_whole_set_are_run_but_have_no_rows() -> None:
    scores = quantus_scores("SensitivityN", **TENSORS, features_in_step=64)
    assert len(scores) > 0
    for name in SET_LEVEL:
        with pytest.raises(OptionError, match="as a whole"):
            quantus_spec(name)


def test_misuse_is_named() -> None:
    with pytest.raises(OptionError, match="'MaxSensitivity'"):
        quantus_spec("MaxSensitivty")
    with pytest.raises(OptionError, match="no option 'steps'"):
        quantus_spec("PixelFlipping", steps=3)
    with pytest.raises(InputError, match="TopKIntersection cannot take this"):
        Metric(quantus_spec("TopKIntersection")).update(**TENSORS)
