"""Forward hooks: those that only look on, such as collectors of features, are not part of the model's function."""

import dis
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

_RETURN_NOTHING = frozenset(
    {"append", "appendleft", "extend", "insert", "update", "add", "clear", "put", "__setitem__", "add_scalar"}
)
"""Methods that return nothing, by which hooks collect what they see."""


def without_observers(hooks: Mapping[int, Callable[..., Any]]) -> "OrderedDict[int, Callable[..., Any]]":
    """Return the forward hooks that may change what the module returns."""
    return OrderedDict((key, hook) for key, hook in hooks.items() if not observes(hook))


def observes(hook: Callable[..., Any]) -> bool:
    """Whether a hook certainly returns nothing and writes to none of its arguments, as its code shows; when in doubt, not."""
    function: Any = hook.__func__ if isinstance(hook, types.MethodType) else hook
    function = vars(type(function)).get("__call__") if not isinstance(function, types.FunctionType) else function
    if not isinstance(function, types.FunctionType) or function.__module__ in _READ_AGAIN:
        return False
    code = function.__code__
    if code.co_flags & (0x20 | 0x80 | 0x200):  # generators and coroutines
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname not in _SKIPPED]
    arguments = set(code.co_varnames[: code.co_argcount])
    own = {code.co_varnames[0]} if isinstance(hook, types.MethodType) and code.co_argcount else set[str]()
    return _returns_nothing(steps) and not any(_writes(steps, i, arguments - own) for i in range(len(steps)))


_READ_AGAIN = frozenset({"transformers.utils.output_capturing"})
"""Modules whose hooks collect what the model itself reads afterwards: the hidden states of a backbone."""

_SKIPPED = frozenset({"RESUME", "PRECALL", "NOP", "CACHE", "EXTENDED_ARG", "COPY_FREE_VARS", "MAKE_CELL"})


def _returns_nothing(steps: list[dis.Instruction]) -> bool:
    for i, step in enumerate(steps):
        if step.opname == "RETURN_CONST" and step.argval is not None:
            return False
        if step.opname == "RETURN_VALUE" and not (i and _is_nothing(steps, i - 1)):
            return False
    return True


def _is_nothing(steps: list[dis.Instruction], i: int) -> bool:
    """Whether what an instruction leaves on the stack is None."""
    if steps[i].opname == "LOAD_CONST":
        return steps[i].argval is None
    if not steps[i].opname.startswith("CALL"):
        return False
    methods = [s for s in steps[:i] if s.opname in ("LOAD_METHOD", "LOAD_ATTR")]
    calls = [s for s in steps[:i] if s.opname.startswith("CALL")]
    # the outermost method is loaded first, its arguments come after
    return bool(methods) and (methods[0] if calls else methods[-1]).argval in _RETURN_NOTHING


def _writes(steps: list[dis.Instruction], i: int, arguments: set[str]) -> bool:
    """Whether an instruction may write to an argument: to an item or attribute of it, or by a method in place such as ``mul_``."""
    step = steps[i]
    if step.opname in {"LOAD_METHOD", "LOAD_ATTR", "LOAD_GLOBAL"}:
        name = str(step.argval)
        return (name.endswith("_") and not name.endswith("__")) or name in {"setattr", "exec", "eval"}
    if step.opname == "BINARY_OP" and "=" in step.argrepr:
        skipped = 1
    elif step.opname in _STORES:
        skipped = _STORES[step.opname]
    else:
        return False
    start = _operand(steps, i, skipped)
    return any(s.opname == "LOAD_FAST" and s.argval in arguments for s in steps[_operand(steps, start, 1) : start])


_STORES = {"STORE_SUBSCR": 1, "STORE_ATTR": 0, "STORE_SLICE": 2}
"""How many operands lie above the container that an instruction stores to."""


def _operand(steps: list[dis.Instruction], end: int, count: int) -> int:
    """Where the instructions begin that leave the topmost ``count`` operands on the stack before ``end``."""
    height = 0
    while count > height and end > 0:
        end -= 1
        height += dis.stack_effect(steps[end].opcode, steps[end].arg if steps[end].opcode >= dis.HAVE_ARGUMENT else None)
    return end
