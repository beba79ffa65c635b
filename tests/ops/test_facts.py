"""The facts of every op of the table are those of torch, by numbers."""

import ast
import itertools
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from relprop.ops.norm import weight_of
from relprop.ops.op import ABSORBED, Role
from relprop.ops.table import OPS
from tests.files import ROOT
from tests.ops.calls import NOT_CALLED, overloads

NAMES = [name for name in OPS if name.startswith(("aten::", "relprop::"))]
CASES = [case for name in NAMES for case in overloads(name)]


def having(fact):
    """A test's cases: the ops that state a fact, called in a way that their entries cover."""
    found = [case for case in CASES if fact(case.op) and not case.op.limit(case.arguments())]
    return pytest.mark.parametrize("case", found, ids=str)


def tensors(output):
    return [y for y in (output if isinstance(output, list | tuple) else [output]) if y.is_floating_point()]


def smallest(case, arguments):
    """The smallest number of an output; what is outside of an op's domain does not count."""
    values = torch.cat([torch.empty(0).double(), *(y.double().flatten() for y in tensors(case.run(arguments)))])
    return float(values[~values.isnan()].min()) if bool((~values.isnan()).any()) else 0.0


@pytest.mark.parametrize("name", NAMES)
def test_every_op_is_called(name):
    listed = [call for call in NOT_CALLED if call.rpartition(".")[0] == name or call == name]
    cases = overloads(name)
    assert cases or listed, (
        f"tests/ops/calls.py makes no call of {name}; give it arguments in SETTINGS, or list it with the reason"
    )
    for case in cases:
        case.run(case.arguments())


@having(lambda op: op.nonnegative == "always")
def test_never_negative(case):
    for seed in range(4):
        assert smallest(case, case.arguments(seed)) >= 0


@having(lambda op: op.nonnegative == "inherits")
def test_sign_of_the_operands(case):
    for seed in range(4):
        assert smallest(case, case.arguments(seed, lambda _, value: abs(value))) >= 0


def is_nonnegative(value):
    return bool((value >= 0).all()) if isinstance(value, Tensor) else isinstance(value, int | float) and value >= 0


@having(lambda op: callable(op.nonnegative))
def test_sign_of_a_call(case):
    """Whatever set of arguments is non-negative: where the entry says that the output is, it is; and it says so of some set.

    Of powers it does not say so where the exponent is a tensor.
    """
    floating = [
        name
        for name, value in case.arguments().items()
        if isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())
    ]
    said = []
    for signs in itertools.product((False, True), repeat=len(floating)):
        known = dict(zip(floating, signs, strict=True))
        arguments = {name: abs(v) if known.get(name) else v for name, v in case.arguments(1).items()}

        said.append(case.op.nonnegative(arguments, is_nonnegative))
        if said[-1]:
            assert smallest(case, arguments) >= 0
    assert any(said) or isinstance(case.arguments().get("exponent"), Tensor)


@having(lambda op: op.bounded)
def test_bounded(case):
    small, large, huge = (
        torch.cat(
            [y.flatten() for y in tensors(case.run(case.arguments(0, lambda name, v, k=k: v * k if name == "self" else v)))]
        )
        for k in (1e2, 1e4, 1e8)
    )
    assert max(abs(small).max(), abs(large).max(), abs(huge).max()) <= 10
    torch.testing.assert_close(large.amax(), huge.amax())
    torch.testing.assert_close(large.amin(), huge.amin())


def at(case, numbers):
    """The op at given numbers, elementwise; the last dimension stands for any."""
    x = torch.tensor(numbers, dtype=torch.float64)
    given = case.arguments(0, lambda name, value: x.expand(2, 4, len(numbers)) if name == "self" else value)
    return case.run(given)[0, 0]


@having(lambda op: op.rectifier == "relu")
def test_relu(case):
    torch.testing.assert_close(at(case, [-100.0, -1.0, 0.0, 1.0, 5.0]), torch.tensor([0.0, 0.0, 0.0, 1.0, 5.0]).double())


@having(lambda op: op.rectifier == "relative")
def test_relatives_of_relu(case):
    """The slope is one far on one side, and small on the other."""
    low, lower, high, higher = at(case, [-100.0, -101.0, 100.0, 101.0])
    below, above = float(low - lower), float(higher - high)
    slopes = (above, below) if above > below else (below, above)
    assert slopes[0] == pytest.approx(1, abs=0.06)
    assert abs(slopes[1]) < 0.5


@having(lambda op: bool(op.floor))
def test_floor(case):
    for floor in (-0.5, 0.0):
        given = case.arguments()
        given[case.op.floor] = torch.full((3, 4, 6), floor).double() if isinstance(given[case.op.floor], Tensor) else floor
        y = case.run(given)
        assert float(y.min()) == floor
        assert floor or case.op.rectifies({**given, case.op.floor: 0.0})
        low = given["self"] <= 0
        assert floor or not y[low].any()


@having(lambda op: op.identity)
def test_identity(case):
    given = case.arguments()
    x = next(v for name, v in given.items() if name in {"self", "input"})
    before, y = x.clone(), case.run(given)
    torch.testing.assert_close(y.to(before.dtype), before, rtol=1e-6, atol=1e-6)
    if case.op.identity == "copy":
        assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


ALIKE = {
    "aten::nan_to_num": "changes values that are not numbers, of which there are none",
    "aten::copy": "returns its second argument",
}


@having(lambda op: not op.identity and op.role in {Role.ACTIVATION, Role.SCALE, Role.SHAPE, Role.POOL})
def test_no_identity_lacks_the_fact(case):
    """An op that returns its input says so."""
    given = case.arguments()
    x, y = given.get("self"), case.run(given)
    same = isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and torch.equal(x, y)
    assert not same or case.name in ALIKE


@having(lambda op: op.reshapes)
def test_reshapes(case):
    given = case.arguments()
    assert torch.equal(case.run(given).flatten(), given["self"].flatten())


@having(lambda op: op.role is Role.SHAPE and not op.reshapes and op.data == ("self",))
def test_no_reshape_lacks_the_fact(case):
    given = case.arguments()
    for y in tensors(case.run(given)):
        assert y.numel() != given["self"].numel() or not torch.equal(y.flatten(), given["self"].flatten())


@having(lambda op: op.order is not None)
def test_order(case):
    given = case.arguments()
    y = case.run(given)
    assert torch.equal(y, given["self"].permute(case.op.order(given, y.dim())))


@having(lambda op: op.repeats is not None)
def test_repeats(case):
    for dim in (1, None):
        given = {**case.arguments(), "dim": dim}
        found, times = case.op.repeats(given, 3)
        assert found == dim
        x, axis = (given["self"].flatten(), 0) if dim is None else (given["self"], dim)
        assert torch.equal(case.run(given), torch.stack([x] * times, axis + 1).flatten(axis, axis + 1))


def other(value):
    """Other numbers in a tensor of the same shape."""
    return torch.rand(value.shape, generator=torch.Generator().manual_seed(7)).to(value.dtype) * 3 + 0.25


def same(y, z):
    return all(torch.equal(a, b) for a, b in zip(*(y if isinstance(y, list | tuple) else [y] for y in (y, z)), strict=True))


UNSET = {"aten::empty_like", "aten::new_empty", "aten::rand_like", "aten::randn_like"}  # whatever is in memory, or random


@having(lambda op: op.reads is not None)
def test_reads(case):
    """What is not read may have any values; what is read matters."""
    given = case.arguments()
    y = case.run(given)
    for name, value in given.items():
        if (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and not UNSET & {case.name, case.name.removesuffix(".default")}
        ):
            changed = same(y, case.run({**given, name: other(value)}))
            assert changed == (name not in case.op.reads), name


SETTLED = {
    "aten::eq": "no two values are the same",
    "aten::ne": "no two values are the same",
    "aten::bucketize": "one number, which lies beyond the same bounds",
    "aten::searchsorted": "one number, which lies beyond the same bounds",
    "aten::isnan": "no value is not a number",
    "aten::isinf": "no value is infinite",
    "aten::all": "no value is zero",
    "aten::any": "no value is zero",
    "aten::logical_and": "no value is zero",
    "aten::logical_or": "no value is zero",
    "aten::logical_not": "no value is zero",
    "aten::nonzero": "no value is zero",
    "aten::scatter": "what is written covers the whole tensor",
}


@having(lambda op: op.reads is None)
def test_no_argument_lacks_the_fact(case):
    """An op that reads all its arguments depends on the values of each."""
    given = case.arguments()
    y = case.run(given)
    for name, value in given.items():
        if isinstance(value, Tensor) and value.is_floating_point() and case.name not in SETTLED:
            changed = 1 - value if name == "q" else other(value)  # quantiles lie between zero and one
            assert not same(y, case.run({**given, name: changed})), f"{case} does not read {name}; say so in `reads`"


@having(lambda op: op.summands is not None)
def test_summands(case):
    given = case.arguments()
    for alpha in (1, 0.5):
        given["alpha"] = alpha
        total = sum(factor * given[name] for name, factor in case.op.summands(given).items())
        torch.testing.assert_close(case.run(given), total)


@having(lambda op: op.maximum)
def test_maximum(case):
    given = case.arguments()
    x, (y, *_) = given["self"], tensors(case.run(given))
    assert torch.isin(y, x).all()
    assert y.max() == x.max()
    assert y.min() > x.min()


@having(lambda op: op.probabilities)
def test_probabilities(case):
    given = case.arguments()
    y = case.run(given)
    assert ((y >= 0) & (y <= 1)).all() or ((y.exp() >= 0) & (y.exp() <= 1)).all()
    if case.op.role is Role.SOFTMAX:
        torch.testing.assert_close((y if y.min() >= 0 else y.exp()).sum(1), torch.ones(3, 6).double())


@pytest.mark.parametrize("case", [case for case in CASES if case.op.gives_weights], ids=str)
def test_weights_of_attention(case):
    given = case.arguments()
    torch.testing.assert_close(case.run(given).sum(given["dim"]), torch.ones(3, 6).double())


@having(lambda op: op.weight_outputs is not None)
def test_outputs_of_a_weight(case):
    given = case.arguments()
    y = case.run(given)
    channels = y.shape[-1] if case.op.role is Role.DENSE else y.shape[1]
    assert given["weight"].shape[case.op.weight_outputs] == channels


def mean_of(case, x):
    """What a norm subtracts."""
    given = case.arguments()
    if given.get("running_mean") is not None:
        return given["running_mean"][:, None]
    if "normalized_shape" in given:
        return x.mean(-1, keepdim=True) if "bias" in given else torch.zeros(()).double()
    groups = given.get("num_groups", x.shape[1])
    return x.unflatten(1, (groups, -1)).mean((2, 3), keepdim=True).expand(-1, -1, x.shape[1] // groups, -1).flatten(1, 2)


@having(lambda op: op.scale is not None)
def test_scale(case):
    """A norm is ``(x − mean) / σ · weight + bias``."""
    given = {name: None if name in {"weight", "bias"} else value for name, value in case.arguments().items()}
    call, x = case.call(given, "input"), given["input"]
    (y, *_) = tensors(call.output)
    torch.testing.assert_close(y, (x - mean_of(case, x)) * case.op.scale(call, x), rtol=1e-5, atol=1e-6)


STEPS = {"aten::floor_divide"}
"""Ops that torch does not differentiate: their values move in steps, so the gradient is zero."""


@having(lambda op: op.gradient is not None)
def test_gradient(case):
    """As autograd's; of norms with the deviation held constant."""
    given = case.arguments()
    if not any(isinstance(given[name], Tensor) for name in case.op.data if name in given):
        pytest.skip("its operand is a number")
    call = case.call(given)
    x = call.x.clone().requires_grad_()
    if case.name in STEPS:
        y = case.run(given).detach() + 0 * x
    elif case.op.scale is None:
        y = case.run({**given, call.data: x})
    else:
        y = (x - mean_of(case, x)) * case.op.scale(call, x).detach() * weight_of(call)
    c = other(y.detach())
    (expected,) = torch.autograd.grad((c * y).sum(), x, materialize_grads=True, allow_unused=True)
    torch.testing.assert_close(case.op.gradient(call, c), expected, equal_nan=True, rtol=1e-5, atol=1e-7)


@having(lambda op: op.even_slope)
def test_even_slopes(case):
    """The gradient is the same at ``x`` and ``−x``."""
    call = case.call(case.arguments())
    slopes = [case.op.gradient(call.with_x(sign * call.x), torch.ones_like(call.x)) for sign in (1, -1)]
    torch.testing.assert_close(*slopes, equal_nan=True, rtol=1e-4, atol=1e-6)


@having(lambda op: op.role is Role.ACTIVATION and op.data == ("self",))
def test_exponentials_and_no_others_turn_sums_into_products(case):
    """``f(2x) = f(x)²`` and ``f(0) = 1``."""
    given = case.arguments()
    if not isinstance(given["self"], Tensor):
        pytest.skip("its operand is a number")
    x = given["self"].double()

    def values(v):
        return case.run({**given, "self": v})

    square = torch.allclose(values(2 * x), values(x) ** 2) and bool((values(0 * x) == 1).all())
    assert square == case.op.exponential


@having(lambda op: op.slices is not None)
def test_slices(case):
    """The slice of the output is the output of the slices, in every dimension that the entry covers, and it covers one."""
    given = case.arguments()
    y = case.run(given)
    covered = 0
    for dim, size in enumerate(y.shape):
        dims = case.op.slices(given, y, dim)
        if dims is None or size < 3:
            continue
        covered += 1
        part = {**given, **{name: given[name].narrow(d, 1, 2) for name, d in dims.items()}}
        if "shape" in part:  # of a reshape, as the pass on windows does
            part["shape"] = [2 if d == dim else n for d, n in enumerate(part["shape"])]
        torch.testing.assert_close(case.run(part), y.narrow(dim, 1, 2), equal_nan=True)
    assert covered


@having(lambda op: op.linear is not None)
def test_linear(case):
    """The op is ``forward + bias``, and ``Σ c · forward(x) = Σ x · transpose(c)``."""
    given = case.arguments()
    if isinstance(given.get("padding"), str):
        pytest.skip("a pass writes the padding in numbers before the plan is made")
    if case.name in {
        "aten::scatter_add",
        "aten::index_add",
        "relprop::index_put_add",
    }:  # a pass takes what they add to out of the call
        given["self"] = torch.zeros_like(given["self"])
    for data in [name for name in case.op.data if isinstance(given.get(name), Tensor)]:
        call = case.call(given, data)
        linear, bias = call.as_linear()
        z = linear.forward(call.x, linear.weight)
        torch.testing.assert_close(z if bias is None else z + bias, call.output)
        c = other(call.output)
        torch.testing.assert_close((c * z).sum(), (call.x * linear.transpose(c, linear.weight)).sum())


def contributions(case, data):
    """Every product ``x_i w_ij`` of a call, seen from one operand: by output, sorted, without zeros."""
    call = case.call(case.arguments(), data)
    linear, _ = call.as_linear()
    eye = torch.diag(call.x.flatten()).reshape(-1, *call.x.shape)
    z = torch.stack([linear.forward(x, linear.weight) for x in eye]).flatten(1)
    return [sorted(column[column != 0].tolist()) for column in z.mT]


def factors(case):
    """The operands of a product of two values."""
    given = case.arguments()
    return [name for name in case.op.data if isinstance(given.get(name), Tensor)] if case.op.linear else []


@pytest.mark.parametrize("case", [case for case in CASES if len(factors(case)) == 2], ids=str)
def test_pairwise(case):
    """Both operands have the same contributions, where the entry says so, and it says so wherever they have."""
    first, second = (contributions(case, data) for data in factors(case))
    alike = all(len(a) == len(b) and np.allclose(a, b) for a, b in zip(first, second, strict=True))
    assert case.op.pairwise == alike


@having(lambda op: op.backward is not None)
def test_backward_conserves(case):
    """What an op's own backward function hands on and what it absorbs add up to the relevance of the output."""
    given = case.arguments()
    if not any(isinstance(given.get(name), Tensor | list) for name in case.op.data):
        pytest.skip("its operand is a number")
    call = case.call(given)
    outputs = call.output if isinstance(call.output, list | tuple) else [call.output]
    parts = [other(y) if y.is_floating_point() else None for y in outputs]
    found = dict(case.op.backward(call, parts if isinstance(call.output, list | tuple) else parts[0]))
    absorbed = found.pop(ABSORBED, torch.zeros(()))
    shares = [s for share in found.values() for s in (share if isinstance(share, list) else [share])]
    total = sum(p.sum() for p in parts if p is not None)
    torch.testing.assert_close(sum(s.sum() for s in shares) + absorbed.sum(), total.to(shares[0].dtype), rtol=1e-5, atol=1e-5)
    for name, share in found.items():
        assert isinstance(share, list) or name not in call.operands or share.shape == call[name].shape


@having(lambda op: op.role is Role.REDUCE)
def test_reductions_say_how_they_share(case):
    assert case.op.backward
    assert case.op.shares


@having(lambda op: op.multiplier is not None)
def test_multipliers(case):
    """``R = Σ c y`` is the relevance ``Σ c x`` of the operand and what is absorbed: the op is linear, so multipliers move by its transpose."""
    given = case.arguments()
    rule = case.op.multiplier
    for data in rule.of or [name for name in case.op.data if isinstance(given.get(name), Tensor)]:
        call = case.call(given, data)
        c = other(call.output)
        shares = dict(rule.backward(call, c))
        absorbed = shares.pop(ABSORBED, torch.zeros(()))
        total = (shares[data] * call.x).sum() + absorbed.sum()
        torch.testing.assert_close(total, (c * call.output).sum().to(total.dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_torch_tags_random_ops(case):
    """An op whose outputs differ from call to call is tagged as random, which keeps it from constant folding."""
    given = {
        name: True if name in {"train", "training"} and "norm" not in case.name else v for name, v in case.arguments().items()
    }
    outputs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        outputs.append(case.run({name: v.clone() if isinstance(v, Tensor) else v for name, v in given.items()}))
    unset = case.name in {*UNSET, "aten::empty"}
    differ = not unset and not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(*map(_flat, outputs), strict=True))
    assert not differ or torch.Tag.nondeterministic_seeded in case.function.tags


def _flat(output):
    return list(output) if isinstance(output, list | tuple) else [output]


@having(lambda op: op.channels != "")
def test_channels_lie_where_the_entry_says(case):
    """A weight has one entry, or one column, per channel; without one, a change of a channel of the input changes that channel alone."""
    arguments = case.arguments()
    name = next(n for n in case.op.data if n in arguments)
    x, weight = arguments[name], arguments.get("weight")
    dim = case.op.channel_dim(arguments, x.dim())
    if weight is not None:
        assert x.shape[dim] in weight.shape
        return
    changed = x.clone()
    changed.select(dim, 1).mul_(-2.0)
    before, after = (tensors(case.run({**arguments, name: v})) for v in (x, changed))
    for a, b in zip(before, after, strict=True):
        others = [i for i in range(a.shape[dim]) if i != 1]
        assert a.shape[dim] == x.shape[dim]
        assert torch.equal(a.index_select(dim, torch.tensor(others)), b.index_select(dim, torch.tensor(others)))
    assert not torch.equal(before[0], after[0])


@having(lambda op: op.cuts)
def test_what_is_cut_along_one_dimension_keeps_the_others(case):
    arguments = case.arguments()
    given = next(v for name, v in arguments.items() if name in case.op.data)
    for x in given if isinstance(given, list) else [given]:
        (output,) = tensors(case.run(arguments))
        assert sum(a != b for a, b in zip(x.shape, output.shape, strict=True)) <= 1


TABLES_ELSEWHERE = {
    ("methods/deeplift.py", "_RULES"): "one multiplier rule per op",
    ("methods/deeplift.py", "_PAIRS"): "one multiplier rule per op of two values",
    ("methods/deeplift.py", "dims"): "ops that return maxima with their positions, for which DeepLIFT has one rule",
    ("methods/libra.py", "_NORMS"): "one norm with a constant variance per op",
    ("methods/patterns.py", "_SCALES"): "ops that the published rules of PatternNet cover as scales",
    ("graph/passes/projections.py", "_SPLITS"): "rewrites these calls of a split",
    ("graph/passes/simplify.py", "_CONV"): "rewrites calls as these ops",
    ("graph/passes/simplify.py", "_CONV_TRANSPOSE"): "rewrites calls as these ops",
}
"""Tables of ops outside of ``relprop.ops``, by file and variable, each with the reason; facts of ops stand in the entry of an op."""


def names_op(node):
    """Whether an expression names an op of ATen, as a string or a target."""
    if isinstance(node, ast.JoinedStr):
        return any(names_op(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and re.search(r"\baten::", node.value) is not None
    return isinstance(node, ast.Attribute) and re.match(r"(torch\.ops\.)?aten\.", ast.unparse(node)) is not None


def is_table(node):
    """Whether an expression lists three ops or more, or makes names of ops in a comprehension."""
    if isinstance(node, ast.DictComp):
        return names_op(node.key) or names_op(node.value)
    if isinstance(node, ast.SetComp | ast.ListComp | ast.GeneratorExp):
        return names_op(node.elt)
    if isinstance(node, ast.Dict):
        return max(sum(map(names_op, filter(None, part))) for part in (node.keys, node.values)) >= 3
    return isinstance(node, ast.Set | ast.List | ast.Tuple) and sum(map(names_op, node.elts)) >= 3


def tables(tree):
    """The variables that hold tables of ops; a table that is no variable's counts by its line."""
    found, owned = set(), set()
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            inside = [node for node in ast.walk(statement.value) if is_table(node)]
            owned.update(map(id, inside))
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            found.update({ast.unparse(target)} if inside else ())
    return found | {f"line {node.lineno}" for node in ast.walk(tree) if is_table(node) and id(node) not in owned}


def test_tables_of_ops_are_in_the_folder_of_ops():
    source = ROOT / "src" / "relprop"
    files = [path for path in sorted(source.rglob("*.py")) if path.relative_to(source).parts[0] != "ops"]
    found = {
        (path.relative_to(source).as_posix(), table) for path in files for table in tables(ast.parse(path.read_text("utf-8")))
    }
    assert found == set(TABLES_ELSEWHERE)
