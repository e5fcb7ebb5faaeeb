"""Module: a function with parameters, made of other modules.

A module's parameters, buffers and submodules are plain attributes. They are found by looking
through `vars(module)` in the order of assignment, and through lists, tuples and dicts there, so
that an attribute access costs nothing extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from .. import autograd
from ..autograd import Tensor
from ..backend_ndarray import NDArray
from ..given import not_a_tensor, shown
from .backward_hook import tapped_inputs
from .module_methods import Members
from .module_state import ModuleState
from .parameter import Parameter


@autograd.watched
class Hook:
    """A function that runs around a module's forward pass, until `remove()`.

    Parameters
    ----------
    module : Module
        The module.
    function : callable
        The function; see `Module.register_forward_hook`.
    before : bool
        Whether it runs before the forward pass.
    """

    def __init__(self, module: Module, function: Callable[..., object], before: bool) -> None:
        self.module = module
        self.function = function
        self.before = before
        module._hooks = (*module._hooks, self)

    def remove(self) -> None:
        """Stop running the function; removing twice is harmless."""
        hooks = tuple(hook for hook in self.module._hooks if hook is not self)
        if hooks:
            self.module._hooks = hooks
        else:  # as before the first one, also to a compiled function
            vars(self.module).pop("_hooks", None)


class BackwardHook(Hook):
    """A function that runs when gradients have passed a module, until `remove()`."""


@autograd.watched
class Module(ModuleState):
    """Base class of layers, models and losses.

    A subclass assigns its Parameters and submodules to attributes in `__init__` and computes in
    `forward`. Lists, tuples and dicts of them are found, too. `training` tells layers such as
    Dropout which way to behave; `train` and `eval` set it.

    Examples
    --------
    >>> import needle as ndl
    >>> class Scale(ndl.nn.Module):
    ...     def __init__(self): self.factor = ndl.nn.Parameter([2.0])
    ...     def forward(self, x): return x * self.factor
    >>> Scale()(ndl.Tensor([3]))
    needle.Tensor([6.])
    """

    training: bool = True
    _hooks: tuple[Hook, ...] = ()
    # The names of the attributes that are buffers, each with whether state_dict saves it.
    _buffer_names: Mapping[str, bool] = MappingProxyType({})
    # Whether a plain Tensor may take the place of a Parameter; it is not trained then.
    _takes_tensors: ClassVar[bool] = False

    def __init__(self) -> None:
        self.training = True

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute. Raises TypeError where a Tensor or an array would take the place of a
        Parameter or of a buffer, which would be trained, moved and saved no longer."""
        held = autograd.unwatched(self, "__dict__").get(name)
        if isinstance(held, Tensor) and value is not held:
            self._check_replacement(name, held, value)
        super().__setattr__(name, value)

    def _check_replacement(self, name: str, held: Tensor, value: object) -> None:
        if isinstance(held, Parameter):
            allowed: type | tuple[type, ...] = (
                Tensor if self._takes_tensors else (Parameter, Module)
            )
            kind, instead = "Parameter", f"self.{name} = nn.Parameter(tensor)"
        elif name in self._buffer_names:
            allowed = Module
            kind, instead = "buffer", f"self.register_buffer({name!r}, tensor)"
        else:
            return
        if value is not None and not isinstance(value, allowed):
            raise TypeError(
                f"[{type(self).__name__}] {name} is a {kind} and cannot become a "
                f"{type(value).__name__}; self.{name}.data = tensor gives it new values, {instead} "
                "puts another in its place"
            )

    # ---- calling --------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute `forward(*args, **kwargs)`, with the hooks around it.

        Parameters
        ----------
        *args, **kwargs : object
            What `forward` takes.

        Returns
        -------
        object
            What `forward` returns, unless a hook replaces it.

        Raises
        ------
        TypeError
            If an argument should be a Tensor and is a number or an array.
        """
        trace = autograd.current_trace()
        if trace is not None:
            trace.calls(self)
        try:
            if self._hooks:
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs)
        except AttributeError as error:
            if any(error.obj is x for x in (*args, *kwargs.values())) and _is_for_tensors(error):
                raise TypeError(
                    f"[{type(self).__name__}] needs a Tensor, {not_a_tensor(error.obj)}"
                ) from None
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every subclass defines it.

        Parameters
        ----------
        *args, **kwargs : object
            What the subclass takes.

        Returns
        -------
        object
            Mostly a Tensor.

        Raises
        ------
        NotImplementedError
            If the class defines none.
        """
        raise NotImplementedError(f"[{type(self).__name__}] defines no forward method")

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hooks = self._hooks
        for hook in hooks:
            if hook.before:
                replaced = hook.function(self, args)
                if replaced is not None:
                    args = replaced if isinstance(replaced, tuple) else (replaced,)
        gradients = [hook.function for hook in hooks if isinstance(hook, BackwardHook)]
        if gradients:
            args, around = tapped_inputs(self, args, gradients)
            result = around(self.forward(*args, **kwargs))
        else:
            result = self.forward(*args, **kwargs)
        for hook in hooks:
            if not hook.before and not isinstance(hook, BackwardHook):
                replaced = hook.function(self, args, result)
                result = result if replaced is None else replaced
        return result

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple[Any, ...]], object]) -> Hook:
        """Run a function before each forward pass.

        Parameters
        ----------
        hook : callable
            Called as hook(module, args); what it returns (not None) replaces the positional
            arguments.

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Identity()
        >>> hook = layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
        >>> layer(ndl.Tensor([1]))
        needle.Tensor([2.])
        """
        return Hook(self, hook, before=True)

    def register_forward_hook(self, hook: Callable[[Module, tuple[Any, ...], Any], object]) -> Hook:
        """Run a function after each forward pass.

        Parameters
        ----------
        hook : callable
            Called as hook(module, args, result); what it returns (not None) replaces the result.

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Identity()
        >>> hook = layer.register_forward_hook(lambda module, args, result: result * 2)
        >>> layer(ndl.Tensor([1]))
        needle.Tensor([2.])
        """
        return Hook(self, hook, before=False)

    def register_full_backward_hook(
        self,
        hook: Callable[[Module, tuple[Tensor | None, ...], tuple[Tensor | None, ...]], object],
    ) -> Hook:
        """Run a function in each backward pass through this module.

        Parameters
        ----------
        hook : callable
            Called as hook(module, grad_input, grad_output) with tuples of the gradients of the
            Tensors among forward's positional arguments and results. A tuple that it returns
            replaces `grad_input`.

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer, x = ndl.nn.Identity(), ndl.Tensor([1.0])
        >>> hook = layer.register_full_backward_hook(lambda module, dx, dy: (dx[0] * 2,))
        >>> layer(x * 1).sum().backward()
        >>> x.grad
        needle.Tensor([2.])
        """
        return BackwardHook(self, hook, before=False)

    # ---- the tree -------------------------------------------------------------------------------

    def _attributes(self) -> Iterator[tuple[str, object]]:
        """The attributes to look through, by the name that appears in paths."""
        return iter(vars(self).items())

    def _members(self) -> Iterator[tuple[str, Parameter | Module]]:
        """The parameters and modules among the attributes and in containers there."""
        for name, value in self._attributes():
            if name != "_hooks":
                yield from _find(name, value)

    def _walk(self, prefix: str, done: set[int]) -> Iterator[tuple[str, Parameter | Module]]:
        """Everything below this module, each once, depth first in the order of attributes."""
        for name, member in self._members():
            if id(member) in done:
                continue
            done.add(id(member))
            yield prefix + name, member
            if isinstance(member, Module):
                yield from member._walk(f"{prefix}{name}.", done)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Iterate over the parameters here and below, with their paths.

        Parameters
        ----------
        prefix : str, default ""
            What the paths begin with.
        recurse : bool, default True
            Whether the modules in this one are included.

        Returns
        -------
        iterator of (str, Parameter)
            Each once; a shared one has its first path.

        Examples
        --------
        >>> import needle as ndl
        >>> model = ndl.nn.Sequential(ndl.nn.Linear(2, 3))
        >>> [name for name, _ in model.named_parameters()]
        ['0.weight', '0.bias']
        """
        start = _dotted(prefix)
        if not recurse:
            members = {id(member): (start + name, member) for name, member in self._members()}
            found = iter(members.values())
        else:
            found = self._walk(start, {id(self)})
        for name, member in found:
            if isinstance(member, Parameter):
                yield name, member

    def parameters(self, recurse: bool = True) -> Members[Parameter]:
        """List the parameters of this module and the modules in it, each once.

        Parameters
        ----------
        recurse : bool, default True
            Whether the modules in this one are included.

        Returns
        -------
        list of Parameter
            It is an iterator, too: `next(model.parameters())` is the first parameter.

        Examples
        --------
        >>> import needle as ndl
        >>> [p.shape for p in ndl.nn.Linear(2, 3).parameters()]
        [(2, 3), (1, 3)]
        """
        return Members(parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Iterate over this module and every module below it, with their paths.

        Parameters
        ----------
        prefix : str, default ""
            The path of this module.

        Returns
        -------
        iterator of (str, Module)

        Examples
        --------
        >>> import needle as ndl
        >>> model = ndl.nn.Sequential(ndl.nn.ReLU(), ndl.nn.Tanh())
        >>> [name for name, _ in model.named_modules()]
        ['', '0', '1']
        """
        yield prefix, self
        for name, member in self._walk(_dotted(prefix), {id(self)}):
            if isinstance(member, Module):
                yield name, member

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the modules directly in this one, with their names, each once.

        Returns
        -------
        iterator of (str, Module)

        Examples
        --------
        >>> import needle as ndl
        >>> [name for name, _ in ndl.nn.Sequential(ndl.nn.ReLU()).named_children()]
        ['0']
        """
        done: set[int] = set()
        for name, member in self._members():
            if isinstance(member, Module) and id(member) not in done:
                done.add(id(member))
                yield name, member

    def children(self) -> Iterator[Module]:
        """Iterate over the modules directly in this one, each once.

        Returns
        -------
        iterator of Module

        Examples
        --------
        >>> import needle as ndl
        >>> list(ndl.nn.Sequential(ndl.nn.ReLU()).children())
        [ReLU()]
        """
        return (module for _, module in self.named_children())

    def _children(self) -> list[Module]:
        """Every module below this one, at any depth."""
        return [module for _, module in self.named_modules()][1:]

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call a function with every module below this one and then with this one.

        Parameters
        ----------
        function : callable
            Called as function(module).

        Returns
        -------
        Module
            This module.

        Examples
        --------
        >>> import needle as ndl
        >>> model = ndl.nn.Sequential(ndl.nn.ReLU())
        >>> _ = model.apply(lambda module: print(type(module).__name__))
        ReLU
        Sequential
        """
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ---- buffers --------------------------------------------------------------------------------

    def register_buffer(self, name: str, tensor: Tensor, persistent: bool = True) -> None:
        """Make a Tensor an attribute that is saved and moved but not trained.

        Parameters
        ----------
        name : str
            The name of the attribute.
        tensor : Tensor
            The buffer.
        persistent : bool, default True
            Whether `state_dict` has it.

        Raises
        ------
        TypeError
            If `tensor` is a Parameter or not a Tensor.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Identity()
        >>> layer.register_buffer('mean', ndl.zeros(2))
        >>> list(layer.state_dict())
        ['mean']
        """
        if not isinstance(tensor, Tensor) or isinstance(tensor, Parameter):
            raise TypeError(
                f"[register_buffer] {name} must be a Tensor that is no Parameter, "
                f"got {type(tensor).__name__}"
            )
        object.__setattr__(self, name, tensor)
        self._buffer_names = {**self._buffer_names, name: persistent}

    def named_buffers(
        self, prefix: str = "", persistent_only: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the buffers of this module and the modules in it, with their paths.

        Parameters
        ----------
        prefix : str, default ""
            What the paths begin with.
        persistent_only : bool, default False
            Whether those that `state_dict` leaves out are left out here, too.

        Returns
        -------
        iterator of (str, Tensor)

        Examples
        --------
        >>> import needle as ndl
        >>> [name for name, _ in ndl.nn.BatchNorm1d(2).named_buffers()]
        ['running_mean', 'running_var']
        """
        for path, module in self.named_modules(prefix):
            for name, persistent in module._buffer_names.items():
                tensor = getattr(module, name, None)
                if isinstance(tensor, Tensor) and (persistent or not persistent_only):
                    yield _dotted(path) + name, tensor

    def buffers(self) -> Members[Tensor]:
        """List the buffers of this module and the modules in it.

        Returns
        -------
        list of Tensor

        Examples
        --------
        >>> import needle as ndl
        >>> len(ndl.nn.BatchNorm1d(2).buffers())
        2
        """
        return Members(tensor for _, tensor in self.named_buffers())

    # ---- modes and places -----------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Put this module and every module below it into training mode.

        Parameters
        ----------
        mode : bool, default True
            False means evaluation mode.

        Returns
        -------
        Module
            This module.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.nn.Dropout(0.5).train(False).training
        False
        """
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"[train] mode must be True or False, got {shown(mode)}")
        self.training = mode
        for module in self._children():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and every module below it into evaluation mode: `train(False)`.

        Returns
        -------
        Module
            This module.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.nn.Dropout(0.5).eval().training
        False
        """
        return self.train(False)

    # ---- printing -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses: the arguments that made the module.

        Returns
        -------
        str

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.nn.Dropout(0.5).extra_repr()
        'p=0.5'
        """
        return ""

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        lines = [f"  ({path}): {_indented(repr(module))}" for path, module in self.named_children()]
        if not lines:
            return f"{name}({extra})"
        return "\n".join([f"{name}({extra}", *lines, ")"])


def _find(path: str, value: object) -> Iterator[tuple[str, Parameter | Module]]:
    """The parameters and modules in `value`, through lists, tuples and dicts."""
    if isinstance(value, (Parameter, Module)):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find(f"{path}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _find(f"{path}.{i}", item)
    elif isinstance(value, (set, frozenset)) and any(isinstance(x, Module) for x in value):
        raise TypeError(f"[Module] {path} is a {type(value).__name__}, in no order: use a list")


def _dotted(prefix: str) -> str:
    return f"{prefix}." if prefix else ""


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def _is_for_tensors(error: AttributeError) -> bool:
    """Whether an attribute was missed that Tensors have, of numbers or an array in their place."""
    data = (NDArray, np.ndarray, np.generic, list, tuple, int, float, str, type(None))
    return isinstance(error.obj, data) and hasattr(Tensor, str(error.name))
