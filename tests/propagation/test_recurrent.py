"""Recurrent layers against an explicit loop: gates are constants, and the signal takes all (Arras et al. 2017)."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import relprop
from relprop.errors import InputError, UnsupportedOpError
from tests.rules.reference import check_conservation

CLOSE = {"rtol": 1e-7, "atol": 1e-11}
PROPORTIONAL = {"method": "lrp-epsilon", "epsilon": 0.0, "add": "signed"}


class Reader(nn.Module):
    """A recurrent layer over ``(batch, time, features)`` from states ``(batch, layers, features)``, read at all steps and in its last states."""

    def __init__(self, layer):
        super().__init__()
        self.layer, directions = layer, 1 + layer.bidirectional
        self.features = layer.proj_size or layer.hidden_size
        self.count = layer.num_layers * directions
        self.head, self.last = nn.Linear(self.features * directions, 3), nn.Linear(self.features, 3)

    def forward(self, x, *states):
        x = x if self.layer.batch_first else x.transpose(0, 1)
        states = tuple(s.transpose(0, 1).contiguous() for s in states)
        out, last = self.layer(x, *([states if isinstance(self.layer, nn.LSTM) else states[0]] if states else []))
        hidden = last[0] if isinstance(self.layer, nn.LSTM) else last
        return self.head(out.mean(1 if self.layer.batch_first else 0)) + self.last(hidden[-1])

    def states(self, batch):
        sizes = [self.features, self.layer.hidden_size][: 1 + isinstance(self.layer, nn.LSTM)]
        return tuple(torch.randn(batch, self.count, size, dtype=torch.float64) for size in sizes)

    def by_hand(self, x, *states):
        """The same step by step, with gates detached and activations as scales."""
        states = states or tuple(torch.zeros_like(s) for s in self.states(len(x)))
        rows, hidden = list(x.unbind(1)), None
        for i in range(self.layer.num_layers):
            ways = []
            for way in range(1 + self.layer.bidirectional):
                place = i * (1 + self.layer.bidirectional) + way
                end = f"_l{i}{'_reverse' * way}"
                out, hidden = self._run(rows[::-1] if way else rows, [s[:, place] for s in states], end)
                ways.append(out[::-1] if way else out)
            rows = [torch.cat(parts, -1) for parts in zip(*ways, strict=True)]
        return self.head(torch.stack(rows, 1).mean(1)) + self.last(hidden)

    def _run(self, rows, states, end):
        weight = {
            name: getattr(self.layer, f"{name}{end}", None)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        }
        step = {nn.LSTM: lstm, nn.GRU: gru, nn.RNN: rnn(getattr(self.layer, "nonlinearity", ""))}[type(self.layer)]
        out = []
        for row in rows:
            of_x = F.linear(row, weight["weight_ih"], weight["bias_ih"])
            of_h = F.linear(states[0], weight["weight_hh"], weight["bias_hh"])
            states = step(of_x, of_h, states, weight["weight_hr"])
            out.append(states[0])
        return out, states[0]


def as_scale(function, x):
    """``f(x)`` with the gradient ``f(x) / x``: relevance passes unchanged."""
    return x * torch.where(x == 0, 0.0, function(x) / torch.where(x == 0, 1.0, x)).detach()


def lstm(of_x, of_h, states, projection):
    i, f, g, o = (of_x + of_h).chunk(4, -1)
    c = f.sigmoid().detach() * states[1] + i.sigmoid().detach() * as_scale(torch.tanh, g)
    h = o.sigmoid().detach() * as_scale(torch.tanh, c)
    return [h if projection is None else h @ projection.T, c]


def gru(of_x, of_h, states, _):
    (r, z, n), (of_r, of_z, of_n) = of_x.chunk(3, -1), of_h.chunk(3, -1)
    reset, update = (r + of_r).sigmoid().detach(), (z + of_z).sigmoid().detach()
    return [(1 - update) * as_scale(torch.tanh, n + reset * of_n) + update * states[0]]


def rnn(nonlinearity):
    return lambda of_x, of_h, *_: [as_scale(torch.relu if nonlinearity == "relu" else torch.tanh, of_x + of_h)]


KINDS = {
    "LSTM": (nn.LSTM, {}),
    "LSTM, projected": (nn.LSTM, {"proj_size": 2}),
    "GRU": (nn.GRU, {}),
    "RNN, tanh": (nn.RNN, {}),
    "RNN, ReLU": (nn.RNN, {"nonlinearity": "relu"}),
    "GRU, no bias": (nn.GRU, {"bias": False}),
}
SHAPES = {
    "plain": {},
    "batch first": {"batch_first": True},
    "both ways": {"batch_first": True, "bidirectional": True},
    "stacked, both ways": {"num_layers": 3, "bidirectional": True},
}


def made(kind, shape):
    torch.manual_seed(0)
    layer, options = KINDS[kind]
    return Reader(layer(3, 4, **options, **SHAPES[shape])).double().eval()


def expected(model, given, target):
    given = [v.clone().requires_grad_() for v in given]
    score = model.by_hand(*given).gather(1, target[:, None]).sum()
    return [v.detach() * g for v, g in zip(given, torch.autograd.grad(score, given), strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_against_an_explicit_loop(kind, shape):
    model, target = made(kind, shape), torch.tensor([0, 2, 1])
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    explanation = relprop.explain(model, x, target, **PROPORTIONAL)
    torch.testing.assert_close(explanation.logits, model.by_hand(x))
    torch.testing.assert_close(explanation.relevance, expected(model, [x], target)[0], **CLOSE)
    check_conservation(explanation)
    alone = relprop.explain(model, x[1:2], target[1:2], **PROPORTIONAL)
    torch.testing.assert_close(alone.relevance, explanation.relevance[1:2], **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_initial_states_take_relevance_where_they_are_inputs(kind, shape):
    model, target = made(kind, shape), torch.tensor([0, 2, 1])
    given = (torch.randn(3, 5, 3, dtype=torch.float64), *model.states(3))
    explanation = relprop.explain(model, given, target, **PROPORTIONAL)
    for ours, theirs in zip(explanation.relevance, expected(model, given, target), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_the_model_holds_absorb(kind):
    model, target = made(kind, "stacked, both ways"), torch.tensor([0, 2, 1])
    states = [s[:1] for s in model.states(1)]

    class Holding(nn.Module):
        def __init__(self):
            super().__init__()
            self.reader = model

        def forward(self, x):
            return self.reader(x, *(s.expand(len(x), -1, -1) for s in states))

    x = torch.randn(3, 5, 3, dtype=torch.float64)
    explanation = relprop.explain(Holding(), x, target, **PROPORTIONAL)
    wanted = expected(model, [x, *(s.expand(3, -1, -1) for s in states)], target)
    torch.testing.assert_close(explanation.relevance, wanted[0], **CLOSE)
    check_conservation(explanation)


class Cells(nn.Module):
    """Cells in a loop of the user's own, one layer upon the other."""

    def __init__(self, cell):
        super().__init__()
        self.first, self.second, self.head = cell(3, 4), cell(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        zeros = torch.zeros(len(x), 4, dtype=x.dtype)
        states = [(zeros, zeros) if isinstance(self.first, nn.LSTMCell) else zeros] * 2
        for row in x.unbind(1):
            for i, cell in enumerate((self.first, self.second)):
                states[i] = cell(row, states[i])
                row = states[i][0] if isinstance(states[i], tuple) else states[i]
        return self.head(row)


@pytest.mark.parametrize(("cell", "layer"), [(nn.LSTMCell, nn.LSTM), (nn.GRUCell, nn.GRU), (nn.RNNCell, nn.RNN)])
def test_cells_in_a_loop_equal_the_layer(cell, layer):
    """With the weights of a layer of two, the same maps."""
    torch.manual_seed(0)
    cells, x = Cells(cell).double().eval(), torch.randn(3, 5, 3, dtype=torch.float64)
    layers = layer(3, 4, 2, batch_first=True).double()
    for i, one in enumerate((cells.first, cells.second)):
        for name, value in one.named_parameters():
            getattr(layers, f"{name}_l{i}").data.copy_(value.data)

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.head = layers, cells.head

        def forward(self, x):
            return self.head(self.layers(x)[0][:, -1])

    for method in ("lrp-epsilon", "lrp-zplus", "attnlrp"):
        a, b = (relprop.explain(model, x, 1, method=method) for model in (cells, Layers().eval()))
        check_conservation(a)
        torch.testing.assert_close(a.relevance, b.relevance, rtol=1e-6, atol=1e-9)


# --- packed sequences --------------------------------------------------------------------------------------------------------------------


class Packing(nn.Module):
    def __init__(self, *, unpack):
        super().__init__()
        self.lstm, self.head, self.unpack = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2), unpack

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, (hidden, _) = self.lstm(packed)
        return self.head(pad_packed_sequence(out, batch_first=True)[0].mean(1) if self.unpack else hidden[-1])


@pytest.mark.parametrize("unpack", [False, True])
def test_models_that_pack_are_refused(unpack):
    with pytest.raises(UnsupportedOpError) as refused:
        relprop.capture(Packing(unpack=unpack), (torch.randn(3, 5, 3), torch.tensor([5, 3, 2])))
    said = str(refused.value)
    assert said.startswith("The model packs sequences (in the model itself)")
    assert said.endswith("take the output of every sample at its own last step, with gather.")


def test_packed_inputs_are_refused():
    packed = pack_sequence([torch.randn(5, 3), torch.randn(3, 3)])
    for given in (packed, (packed,), {"x": packed}, [{"a": packed}]):
        with pytest.raises(InputError, match=r"hold a PackedSequence.*pass the padded sequences"):
            relprop.capture(nn.LSTM(3, 4), given)


def test_what_the_refusal_advises_works():
    """Padded sequences, each read at its own last step: what lies behind it takes nothing."""

    class Gathering(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x, lengths):
            out = self.lstm(x)[0]
            last = (lengths - 1)[:, None, None].expand(-1, 1, out.shape[2])
            return self.head(out.gather(1, last)[:, 0])

    torch.manual_seed(0)
    model, x, lengths = Gathering().double().eval(), torch.randn(3, 5, 3, dtype=torch.float64), torch.tensor([5, 3, 2])
    explainer = relprop.Explainer(model, (x, lengths), "lrp-epsilon")
    relevance = explainer((x, lengths), 1).relevance[0]
    for i, length in enumerate(lengths.tolist()):
        assert not relevance[i, length:].any()
        alone = explainer((x[i : i + 1, :length], torch.tensor([length])), 1).relevance[0] if length == 5 else None
        assert alone is None or torch.allclose(alone, relevance[i : i + 1])
