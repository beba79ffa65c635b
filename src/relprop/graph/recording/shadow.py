"""A shadow of a model: its modules copied, its weights shared, so that a recording runs the model's own code and leaves the model as it is."""

import functools
import types
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from relprop.graph.recording.hooks import without_observers

Caller = Callable[..., Any]
"""``(path, forward, *args, **kwargs) -> result``: one call of the module at ``path``."""

Returned = Callable[[str, Any, Any, Any], None]
"""``(path, module, args, result)``: what the module at ``path`` returned, after its own hooks."""

_LAST = -1
"""A key of a hook that no hook of the user has."""

_CONTAINERS = (list, tuple, dict, OrderedDict, set, deque)
_LARGEST = 10_000
"""Containers with more items hold data, not modules."""


class Shadow:
    """Copies of the modules of a model in evaluation mode; tensors are aliases of the model's own.

    Args:
        model: The user's model.
        call: Called in place of every module's ``forward``.
        returned: Called when a module returns.

    Attributes:
        model: The copy.
        names: The names of its parameters and buffers, by identity.
    """

    def __init__(self, model: nn.Module, call: Caller, returned: Returned) -> None:
        self._call, self._returned = call, returned
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._copies: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._buffers: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.names: dict[int, str] = {}
        self.model: nn.Module = self._module(model)

    def _module(self, module: nn.Module) -> Any:  # noqa: ANN401 - a module, or what stands for it
        if id(module) in self._copies:
            return self._copies[id(module)]
        if isinstance(module, torch.jit.ScriptModule):
            return self._script(module)
        if type(module).__name__ == "OptimizedModule":  # of torch.compile
            return self._module(module.get_submodule("_orig_mod"))
        path = self._paths.get(id(module), "")
        copied = self._copies[id(module)] = object.__new__(type(module))
        own: dict[str, Any] = {}
        object.__setattr__(copied, "__dict__", own)
        prefix = f"{path}." if path else ""
        for name, value in module.__dict__.items():
            if name in ("_parameters", "_buffers"):
                own[name] = type(value)((key, self._tensor(tensor, prefix + key)) for key, tensor in value.items())
            elif name == "_modules":
                own[name] = type(value)((key, None if child is None else self._module(child)) for key, child in value.items())
            else:
                own[name] = self._translated(value)
        self._buffers.append((prefix, own["_buffers"], dict(own["_buffers"])))
        own["training"] = False
        own["_forward_pre_hooks"] = without_observers(own["_forward_pre_hooks"])
        own["_forward_hooks"] = without_observers(own["_forward_hooks"])
        own["_forward_hooks"][_LAST] = functools.partial(self._returned, path)
        forward = own.get("forward", types.MethodType(type(module).forward, copied))
        own["forward"] = functools.partial(self._call, path, forward)
        return copied

    def replaced(self) -> frozenset[str]:
        """Return the names of the buffers in whose place the model's code has put another tensor."""
        return frozenset(
            prefix + key
            for prefix, now, before in self._buffers
            for key, buffer in before.items()
            if buffer is not None and now.get(key) is not buffer
        )

    def _script(self, module: torch.jit.ScriptModule) -> Any:  # noqa: ANN401
        """TorchScript has no code to copy; it runs as it is, or a copy of it in evaluation mode."""
        if any(m.training for m in module.modules()):
            module = module.copy().eval()  # pyright: ignore[reportAttributeAccessIssue]
        path = self._paths.get(id(module), "")
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            self._kept.append(tensor)
            self.names[id(tensor)] = f"{path}.{name}".removeprefix(".")
        self._copies[id(module)] = module
        return module

    def _tensor(self, tensor: Tensor | None, name: str) -> Tensor | None:
        """Return an alias of a parameter or buffer, which the copy may replace; one shared by several modules stays shared."""
        if tensor is None or type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            return tensor
        if id(tensor) not in self._copies:
            alias = tensor.detach()
            if isinstance(tensor, nn.Parameter):
                # fused inference paths ask whether weights have gradients
                alias = nn.Parameter(alias, requires_grad=alias.is_floating_point() or alias.is_complex())
            self._copies[id(tensor)] = alias
            self.names[id(alias)] = name
        return self._copies[id(tensor)]

    def _translated(self, value: Any) -> Any:  # noqa: ANN401 - an attribute of a module
        """Return an attribute with copies in place of modules; containers are copied, so that ``forward`` may write to them."""
        if isinstance(value, nn.Module):
            return self._module(value)
        if id(value) in self._copies:
            return self._copies[id(value)]
        if type(value) in _CONTAINERS and len(value) <= _LARGEST:
            return self._container(value)
        if isinstance(value, types.MethodType):
            return self._method(value)
        if type(value) is functools.partial:
            whole: Any = value
            return functools.partial(
                self._translated(whole.func), *map(self._translated, whole.args), **self._translated(whole.keywords)
            )
        return self._function(value) if isinstance(value, types.FunctionType) and value.__closure__ else value

    def _method(self, method: types.MethodType) -> Any:  # noqa: ANN401
        """Return a method of a module as one of its copy; ``forward``, unless the module's own replaces it, as the call that is recorded."""
        owner = self._translated(method.__self__)
        if isinstance(owner, nn.Module) and method.__name__ == "forward" and "forward" not in vars(method.__self__):
            return functools.partial(_forward, owner)
        return types.MethodType(method.__func__, owner)

    def _container(self, value: Any) -> Any:  # noqa: ANN401 - a list, dict, …
        """Return a copy of a container with copies in place of modules."""
        if isinstance(value, tuple):
            return tuple(self._translated(item) for item in value)
        copied = self._copies[id(value)] = type(value)()
        self._kept.append(value)
        if isinstance(value, dict):
            copied.update((key, self._translated(item)) for key, item in value.items())
        elif isinstance(value, set):
            copied.update(self._translated(item) for item in value)
        else:
            copied.extend(self._translated(item) for item in value)
        return copied

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        """Return a function whose closure reads copies of modules."""
        held = [cell.cell_contents if _filled(cell) else None for cell in function.__closure__ or ()]
        if not any(isinstance(item, nn.Module | types.MethodType) for item in held):
            return function
        cells = tuple(types.CellType(self._translated(item)) for item in held)
        made = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
        made.__kwdefaults__ = function.__kwdefaults__
        made.__dict__.update(function.__dict__)
        return made


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Call a module's ``forward`` as it is by then."""
    return module.forward(*args, **kwargs)
