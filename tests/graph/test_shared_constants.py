"""Constants that share memory keep names of their own."""

import torch
from torch import nn

from relprop.graph.capture import capture
from relprop.graph.nodes import add_constant
from relprop.inputs import as_inputs


def test_constants_of_one_memory_do_not_overwrite_each_other():
    module = capture(nn.Linear(4, 3), as_inputs(torch.randn(2, 4))).module
    output = next(node for node in module.graph.nodes if node.op == "output").prev
    weight = next(iter(module.buffers()))
    values = [weight, weight, torch.zeros(2), torch.ones(5)]
    nodes = [add_constant(module, output, "folded", value) for value in values]
    assert len({node.target for node in nodes}) == len(values)
    assert all(getattr(module, node.target) is value for node, value in zip(nodes, values, strict=True))
