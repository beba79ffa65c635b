"""Registering an op: what is refused, what is stored, and that no entry is replaced by accident."""

import pytest
import torch

import relprop
from relprop.errors import OptionError
from relprop.graph.facts import analyze
from relprop.ops.op import Role, op_name, slices_with_broadcasting
from relprop.ops.table import OPS, exists

NAME = "aten::digamma"


@pytest.fixture(autouse=True)
def table():
    """The table, put back afterwards."""
    before = dict(OPS)
    yield OPS
    OPS.clear()
    OPS.update(before)


def backward(_, relevance):
    return {"self": relevance}


def test_an_op_that_torch_does_not_know_is_refused(table):
    with pytest.raises(OptionError, match=r"torch has no op 'aten::digama'.*torch\.library"):
        relprop.register_op("aten::digama", backward)
    with pytest.raises(OptionError, match="torch has no op 'nowhere::swish'"):
        relprop.register_op("nowhere::swish", backward)
    with pytest.raises(OptionError, match=r"torch has no op 'aten::digamma\.nonsense'"):
        relprop.register_op("aten::digamma.nonsense", backward)
    assert "aten::digama" not in table
    assert "nowhere::swish" not in table
    assert "aten::digamma.nonsense" not in table


@pytest.mark.parametrize(
    ("name", "known"), [("aten::max", True), ("aten::max.dim", True), ("aten::max.nonsense", False), ("aten::maxx", False)]
)
def test_names_that_torch_knows(name, known):
    assert exists(name) == known


def test_an_earlier_entry_is_not_replaced(table):
    relu = table["aten::relu"]
    with pytest.raises(OptionError, match=r"entry for op 'aten::relu' already.*override=True"):
        relprop.register_op("aten::relu", backward)
    assert table["aten::relu"] is relu
    relprop.register_op("aten::relu", backward, override=True)
    assert table["aten::relu"].backward is backward


def test_registering_twice(table):
    relprop.register_op(NAME, backward)
    with pytest.raises(OptionError, match="override=True"):
        relprop.register_op(NAME, backward)
    relprop.register_op(NAME, role="block", override=True)
    assert table[NAME].role is Role.BLOCK
    assert table[NAME].backward is None


def test_an_overload_beside_the_op(table):
    """An overload may have an entry of its own; that of the op stays."""
    mean = table["aten::mean"]
    relprop.register_op("aten::mean.dim", backward)
    assert table["aten::mean"] is mean
    assert table["aten::mean.dim"].backward is backward


def test_facts_are_stored(table):
    def linear(_):
        raise NotImplementedError

    def gradient(_, c):
        return c

    def sign(arguments, known):
        return known(arguments["self"])

    facts = {
        "linear": linear,
        "gradient": gradient,
        "data": ("self",),
        "needs": ("self", "output"),
        "nonnegative": sign,
        "bounded": True,
    }
    relprop.register_op(NAME, backward, role="dense", elementwise=True, **facts)
    op = table[NAME]
    assert {name: getattr(op, name) for name in facts} == facts
    assert op.role is Role.DENSE
    assert op.backward is backward
    assert op.slices is slices_with_broadcasting


def test_facts_left_out(table):
    relprop.register_op(NAME)
    op = table[NAME]
    assert op.role is Role.ACTIVATION
    assert (op.backward, op.linear, op.gradient, op.slices) == (None, None, None, None)
    assert (op.data, op.needs, op.nonnegative, op.bounded) == ((), (), "never", False)
    assert not op.limit({})


@pytest.mark.parametrize("fact", ["backward", "linear", "gradient"])
def test_what_is_no_function_is_refused(table, fact):
    with pytest.raises(OptionError, match="not str"):
        relprop.register_op(NAME, **{fact: "self"})
    assert NAME not in table


def test_an_unknown_sign_is_refused(table):
    with pytest.raises(OptionError, match="nonnegative"):
        relprop.register_op(NAME, nonnegative="sometimes")
    assert NAME not in table


def test_an_unknown_role_names_the_nearest(table):
    with pytest.raises(OptionError, match="activation"):
        relprop.register_op(NAME, role="activtion")
    assert NAME not in table


@pytest.mark.parametrize("role", ["dense", "conv", "pool", "attention", "product", "input", "output"])
def test_a_linear_role_needs_a_function(table, role):
    with pytest.raises(OptionError, match="needs `linear` or `backward`"):
        relprop.register_op(NAME, role=role)
    relprop.register_op(NAME, backward, role=role)
    assert table[NAME].role == role


def test_the_facts_of_a_registered_op_reach_the_plan():
    """The analysis of a model knows the sign that the entry states."""
    relprop.register_op("aten::digamma", backward, nonnegative="always")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.last(torch.digamma(self.first(x)))

    captured = relprop.capture(Model().eval(), torch.randn(2, 4))
    (node,) = [n for n in captured.module.graph.nodes if op_name(n.target) == NAME]
    assert node in analyze(captured.module, dynamic=False).nonnegative
