"""Which ops write to memory, and who else reads it."""

from torch import fx

from relprop.graph.nodes import tensor_inputs


def mutated(node: fx.Node) -> fx.Node | None:
    """The value that ``node`` writes to, if it is an in-place op."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable:
        return None
    first = node.args[0]
    return first if isinstance(first, fx.Node) else None


def is_view(node: fx.Node) -> bool:
    """Whether ``node`` may share memory with its first argument."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not node.args:
        return False
    shares = any(r.alias_info is not None for r in schema.returns)
    return shares or schema.name in {
        "aten::reshape",
        "aten::flatten",
        "aten::contiguous",
        "aten::to",
        "aten::view_as",
        "aten::dropout",
    }


def family(node: fx.Node) -> set[fx.Node]:
    """Every node that may share memory with ``node``."""
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
        # views made after the write are made from its result; those made before it would go stale
        earlier = [other for other in family(target) if other is not target and order[other] < order[node]]
        if any(order[user] > order[node] for other in earlier for user in other.users):
            return True
    return False


_SHAPE_ONLY = tuple(f"aten.{name}" for name in ("sym_size", "new_", "zeros_like", "ones_like", "full_like", "empty_like"))


def depends_on_values(node: fx.Node) -> bool:
    """Whether the value of ``node`` depends on the values of an input, not only on its shape."""
    seen, queue, inputs = {node}, [node], set(tensor_inputs(node.graph))
    while queue:
        for parent in queue.pop().all_input_nodes:
            if parent in inputs:
                return True
            if parent not in seen and not str(parent.target).startswith(_SHAPE_ONLY):
                seen.add(parent)
                queue.append(parent)
    return False
