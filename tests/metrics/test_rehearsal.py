"""Options of metrics that can never work are refused before a run; those that can, are not."""

import pytest

from relprop.errors import OptionError
from relprop.metrics import METRICS, metric
from relprop.metrics.rehearsal import rehearse

REFUSED = {
    "lerf": [{"fill": "nope"}, {"steps": 0}, {"steps": "x"}, {"per_step": -1}, {"region": 0}, {"order": "up"}],
    "segmentation": [{"threshold": "percentile:200"}, {"threshold": 5}, {"ap": "both"}],
    "pointing-game": [{"tolerance": "wide"}],
    "relevance-mass": [{"pool": "least"}],
    "sensitivity-n": [{"shares": 0.5}, {"shares": [2.0]}, {"samples": 0}, {"shares": ["a"]}],
    "infidelity": [{"perturbation": "none"}, {"samples": 0}, {"scale": "a"}],
    "max-sensitivity": [{"radius": "far"}, {"samples": 0}],
    "gae": [{"steps": 1}],
    "cascading-randomization": [{"mode": "all"}, {"reinit": "twice"}, {"similarity": ["twins"]}],
    "insertion-deletion": [{"steps": 0}, {"deletion_fill": "gray"}],
}
TAKEN = {
    "lerf": [{"fill": "road", "steps": 3}, {"region": 100}, {"per_step": 10_000}],
    "segmentation": [{"threshold": "percentile:90"}, {"threshold": "zero", "ap": "two-class"}],
    "sensitivity-n": [{"shares": [0.1]}],
    "infidelity": [{"perturbation": "square", "side": 20}, {"scale": 1}],
    "cascading-randomization": [{"layers": ["features.0"]}, {"count": None}],
}


@pytest.mark.parametrize(("name", "options"), [(name, options) for name, every in REFUSED.items() for options in every])
def test_what_can_never_work_is_refused(name, options):
    with pytest.raises(OptionError, match=r"[Mm]etric|[Oo]ption"):
        rehearse(metric(name, **options), options)


@pytest.mark.parametrize(("name", "options"), [(name, options) for name, every in TAKEN.items() for options in every])
def test_what_can_work_is_not(name, options):
    rehearse(metric(name, **options), options)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_can_be_rehearsed(name):
    made = metric(name)
    rehearse(made, dict(made.options) or {"nothing": None})
