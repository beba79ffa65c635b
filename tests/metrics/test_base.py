import pytest
import torch

from relprop.errors import InputError, OptionError
from relprop.metrics import METRICS, metric

LOCATED = [name for name, spec in METRICS.items() if set(spec.needs) == {"relevance", "mask"}]


def batch(count: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    relevance = torch.randn(count, 3, 8, 8, generator=generator)
    return {"relevance": relevance, "mask": torch.randint(0, 2, (count, 8, 8), generator=generator)}


@pytest.mark.parametrize("name", LOCATED)
def test_batches_and_workers_give_what_one_batch_gives(name: str) -> None:
    tensors = batch()
    whole, first, second = metric(name), metric(name), metric(name)
    rows = whole.update(**tensors)
    halves = [
        part.update(**{key: value[cut] for key, value in tensors.items()})
        for part, cut in ((first, slice(2)), (second, slice(2, 6)))
    ]
    first.merge(second)
    assert first.images == 6
    for over in whole.spec.over:
        for key, value in whole.compute(over).items():
            assert torch.allclose(first.compute(over)[key], value)
    for key, value in rows.items():
        assert torch.allclose(torch.cat([half[key] for half in halves]), value)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_documents_what_it_reports(name: str) -> None:
    spec = METRICS[name]
    assert spec.source
    assert spec.values
    assert all(value.low < value.high and value.meaning for value in spec.values)
    assert set(spec.over) <= {"set", "images"}


@pytest.mark.parametrize("name", LOCATED)
def test_reported_values_are_the_documented_ones(name: str) -> None:
    measured = metric(name)
    rows = measured.update(**batch())
    assert list(rows) == [value.name for value in measured.spec.values]
    for value in measured.spec.values:
        assert (rows[value.name] >= value.low).all()
        assert (rows[value.name] <= value.high).all()


def test_reset_forgets() -> None:
    measured = metric("segmentation")
    measured.update(**batch())
    measured.reset()
    assert measured.images == 0
    assert measured.compute() == measured.compute("images") == {}


def test_misuse_is_named() -> None:
    with pytest.raises(OptionError, match="'segmentation'"):
        metric("segmentaton")
    with pytest.raises(InputError, match="needs mask"):
        metric("segmentation").update(relevance=torch.zeros(1, 2, 2))
    with pytest.raises(InputError, match="cannot take the state"):
        metric("segmentation").merge(metric("segmentation", threshold="zero"))
