"""Batches that halve themselves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relprop.errors import InputError
from relprop.evaluation.compute.batches import Batches, Failed, NoMemory, is_out_of_memory, sentence


def flat(results):
    return [item for part, _ in results for item in part]


@given(count=st.integers(0, 20), size=st.integers(1, 9), limit=st.integers(1, 9))
def test_every_item_once_in_order_and_never_more_than_fit(count, size, limit):
    done, told = [], []

    def work(part):
        if len(part) > limit:
            raise MemoryError
        done.append(len(part))
        return part

    found = list(Batches(size, told.append).run(range(count), work))
    assert flat(found) == list(range(count))
    assert all(part == result for part, result in found)
    assert max(done, default=0) <= min(size, limit)
    assert len(told) <= 4


@given(bad=st.sets(st.integers(0, 15)), size=st.integers(1, 16))
def test_exactly_the_items_that_fail_fail(bad, size):
    def work(part):
        if bad & set(part):
            raise ValueError("no")
        return part

    found = list(Batches(size, print).run(range(16), work))
    assert flat(found) == list(range(16))
    failed = {item for part, result in found if isinstance(result, Failed) for item in part}
    assert failed == bad


def test_groups_count_as_their_images():
    sizes = []

    def work(part):
        sizes.append(len(part))
        if len(part) > 1:
            raise MemoryError
        return part

    batches = Batches(16, print)
    assert flat(batches.run(range(5), work, 4)) == list(range(5))
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    assert batches.size == 4


def test_work_on_the_whole_shrinks_what_it_keeps_to():
    batches, seen = Batches(8, print), []

    def work(part):
        seen.append((len(part), batches.size))
        if batches.size > 2:
            raise MemoryError
        return part

    assert flat(batches.run(range(5), work, 0)) == list(range(5))
    assert seen == [(5, 8), (5, 4), (5, 2)]


@pytest.mark.parametrize("each", [0, 1, 4])
def test_what_does_not_fit_at_all_ends(each):
    def work(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(NoMemory):
        list(Batches(8, print).run(range(5), work, each))


def test_interrupts_are_no_failures():
    def work(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Batches(8, print).run(range(5), work))


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, memory):
    assert is_out_of_memory(error) is memory


def test_errors_become_sentences():
    assert sentence(InputError("One sentence.")) == "One sentence."
    assert sentence(ValueError("first\nsecond")) == "ValueError: first"
    assert sentence(KeyError()) == "KeyError"
