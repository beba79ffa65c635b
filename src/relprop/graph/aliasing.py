"""Alias analysis: the values that ops read, in-place writes, and views that share memory."""

from torch import fx

from relprop.graph.nodes import nodes_in, tensor_inputs
from relprop.ops.table import arguments_of, entry


def mutated(node: fx.Node) -> fx.Node | None:
    """Return the value that ``node`` writes to, if it is an in-place op."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable:
        return None
    first = node.args[0]
    return first if isinstance(first, fx.Node) else None


def values_read(node: fx.Node) -> list[fx.Node]:
    """Return the values that an op reads, without those of which only the shape or the dtype matters to it."""
    op = entry(node)
    if op is None or op.reads is None:
        return node.all_input_nodes
    arguments = arguments_of(node)
    return [n for name in op.reads for n in nodes_in(arguments[name])]


def is_view(node: fx.Node) -> bool:
    """Whether ``node`` may share memory with its first argument: its schema says so, or it may return the argument itself."""
    schema, op = getattr(node.target, "_schema", None), entry(node)
    if schema is None or not node.args:
        return False
    return any(r.alias_info is not None for r in schema.returns) or (op is not None and op.identity == "alias")


def family(node: fx.Node) -> set[fx.Node]:
    """The alias set of a node: every node that may share memory with it."""
    root = node
    while root.op == "call_function" and is_view(root) and isinstance(root.args[0], fx.Node):
        root = root.args[0]
    found, queue = {root}, [root]
    while queue:
        for user in queue.pop().users:
            if user not in found and user.op == "call_function" and user.args and is_view(user) and user.args[0] in found:
                found.add(user)
                queue.append(user)
    return found


def writes_through_views(graph: fx.Graph) -> bool:
    """Whether an in-place op writes to memory that later ops read through another view.

    Such a graph must be made functional by ``torch.export`` itself, which takes seconds; the usual ``relu_`` and ``+=`` need not.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        target = mutated(node)
        if target is None or not depends_on_values(node):
            continue
        # after the write, views read its result; views from before it would be stale
        earlier = [other for other in family(target) if other is not target and order[other] < order[node]]
        if any(order[user] > order[node] for other in earlier for user in other.users):
            return True
    return False


def depends_on_values(node: fx.Node) -> bool:
    """Whether the value of ``node`` depends on the values of an input, not only on its shape."""
    seen, queue, inputs = {node}, [node], set(tensor_inputs(node.graph))
    while queue:
        for parent in queue.pop().all_input_nodes:
            if parent in inputs:
                return True
            if parent not in seen and not _reads_shape_only(parent):
                seen.add(parent)
                queue.append(parent)
    return False


def _reads_shape_only(node: fx.Node) -> bool:
    op = entry(node)
    return op is not None and op.reads == ()
