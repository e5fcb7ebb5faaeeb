"""Hooks: functions that run around a module's forward pass, its gradients and its state dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import autograd
from ..autograd import Tensor
from .backward_hook import tapped_inputs, tapped_results
from .module_attributes import ModuleAttributes
from .module_methods import ModuleMethods


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
    prepend : bool, default False
        Whether it runs before the hooks that are there.
    with_kwargs : bool, default False
        Whether it is given the keyword arguments, too.
    always_call : bool, default False
        Whether it also runs, with the result None, where the forward pass raises an error.
    """

    _list = "_hooks"  # the attribute of the module that has the hooks of this kind

    def __init__(
        self,
        module: ModuleMethods,
        function: Callable[..., object],
        before: bool,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> None:
        self.module = module
        self.function = function
        self.before = before
        self.with_kwargs = with_kwargs
        self.always_call = always_call
        held = getattr(module, self._list)
        setattr(module, self._list, (self, *held) if prepend else (*held, self))

    def remove(self) -> None:
        """Stop running the function; removing twice is harmless."""
        hooks = tuple(hook for hook in getattr(self.module, self._list) if hook is not self)
        if hooks:
            setattr(self.module, self._list, hooks)
        else:  # as before the first one, also to a compiled function
            vars(self.module).pop(self._list, None)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], *result: object) -> Any:
        if self.with_kwargs:
            return self.function(self.module, args, kwargs, *result)
        return self.function(self.module, args, *result)


class BackwardHook(Hook):
    """A function that runs when gradients have passed a module, until `remove()`."""


class BackwardPreHook(BackwardHook):
    """A function that runs before gradients pass a module, until `remove()`."""


class StateHook(Hook):
    """A function that runs before or after `state_dict` or `load_state_dict`, until `remove()`."""

    _list = "_state_hooks"

    def __init__(
        self, module: ModuleMethods, function: Callable[..., object], before: bool, loads: bool
    ) -> None:
        self.loads = loads
        super().__init__(module, function, before)


class ModuleHooks(ModuleAttributes):
    """Registers the hooks of a module, and runs those around its forward pass."""

    _hooks: tuple[Hook, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's result; defined by Module."""
        raise NotImplementedError

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return self._between_hooks(args, kwargs)
        except BaseException:
            for hook in self._hooks:
                if hook.always_call:
                    hook._call(args, kwargs, None)
            raise

    def _between_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hooks = self._hooks
        for hook in hooks:
            if hook.before:
                replaced = hook._call(args, kwargs)
                if replaced is not None and hook.with_kwargs:
                    args, kwargs = replaced
                elif replaced is not None:
                    args = replaced if isinstance(replaced, tuple) else (replaced,)
        gradients = [hook for hook in hooks if isinstance(hook, BackwardHook)]
        first = [hook.function for hook in gradients if isinstance(hook, BackwardPreHook)]
        after = [hook.function for hook in gradients if not isinstance(hook, BackwardPreHook)]
        if after:
            args, around = tapped_inputs(self, args, after)
            result = around(self.forward(*args, **kwargs))
        else:
            result = self.forward(*args, **kwargs)
        if first:
            result = tapped_results(self, result, first)
        for hook in hooks:
            if not hook.before and not isinstance(hook, BackwardHook):
                replaced = hook._call(args, kwargs, result)
                result = result if replaced is None else replaced
        return result

    def register_forward_pre_hook(
        self, hook: Callable[..., object], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Hook:
        """Run a function before each forward pass.

        Parameters
        ----------
        hook : callable
            Called as hook(module, args); what it returns (not None) replaces the positional
            arguments.
        prepend : bool, default False
            Whether it runs before the hooks that are there.
        with_kwargs : bool, default False
            Whether it is called as hook(module, args, kwargs), and returns a pair of new ones.

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
        return Hook(self, hook, True, prepend, with_kwargs)

    def register_forward_hook(
        self,
        hook: Callable[..., object],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> Hook:
        """Run a function after each forward pass.

        Parameters
        ----------
        hook : callable
            Called as hook(module, args, result); what it returns (not None) replaces the result.
        prepend : bool, default False
            Whether it runs before the hooks that are there.
        with_kwargs : bool, default False
            Whether it is called as hook(module, args, kwargs, result).
        always_call : bool, default False
            Whether it also runs, with the result None, where the forward pass raises an error.

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
        return Hook(self, hook, False, prepend, with_kwargs, always_call)

    def register_full_backward_hook(
        self,
        hook: Callable[[Any, tuple[Tensor | None, ...], tuple[Tensor | None, ...]], object],
        prepend: bool = False,
    ) -> Hook:
        """Run a function in each backward pass through this module.

        Parameters
        ----------
        hook : callable
            Called as hook(module, grad_input, grad_output) with tuples of the gradients of the
            Tensors among forward's positional arguments and results. A tuple that it returns
            replaces `grad_input`.
        prepend : bool, default False
            Whether it runs before the hooks that are there.

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
        return BackwardHook(self, hook, False, prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[[Any, tuple[Tensor | None, ...]], object], prepend: bool = False
    ) -> Hook:
        """Run a function in each backward pass before the gradients come to this module.

        Parameters
        ----------
        hook : callable
            Called as hook(module, grad_output) with a tuple of the gradients of the Tensors among
            forward's results. A tuple that it returns replaces them.
        prepend : bool, default False
            Whether it runs before the hooks that are there.

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer, x = ndl.nn.Identity(), ndl.Tensor([1.0])
        >>> hook = layer.register_full_backward_pre_hook(lambda module, dy: (dy[0] * 3,))
        >>> layer(x * 1).sum().backward()
        >>> x.grad
        needle.Tensor([3.])
        """
        return BackwardPreHook(self, hook, False, prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., object]) -> Hook:
        """Run a function before each `state_dict`.

        Parameters
        ----------
        hook : callable
            Called as hook(module, prefix, keep_vars).

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Linear(2, 3)
        >>> _ = layer.register_state_dict_pre_hook(lambda *arguments: print("saved"))
        >>> _ = layer.state_dict()
        saved
        """
        return StateHook(self, hook, before=True, loads=False)

    def register_state_dict_post_hook(self, hook: Callable[..., object]) -> Hook:
        """Run a function on each `state_dict`, which it may change in place.

        Parameters
        ----------
        hook : callable
            Called as hook(module, state_dict, prefix, metadata); `metadata` is an empty dict.

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Linear(2, 3)
        >>> _ = layer.register_state_dict_post_hook(lambda module, state, *_: state.pop("bias"))
        >>> list(layer.state_dict())
        ['weight']
        """
        return StateHook(self, hook, before=False, loads=False)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., object]) -> Hook:
        """Run a function on a copy of the dict that `load_state_dict` is given.

        Parameters
        ----------
        hook : callable
            Called as hook(module, state_dict, prefix, metadata, strict, missing_keys,
            unexpected_keys, error_msgs). It may change the dict, such as rename keys of older
            files, and add to the three lists.

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Linear(2, 3, bias=False)
        >>> def rename(module, state, prefix, *_):
        ...     state[prefix + "weight"] = state.pop(prefix + "w")
        >>> _ = layer.register_load_state_dict_pre_hook(rename)
        >>> layer.load_state_dict({"w": ndl.ones(2, 3)}).missing_keys
        []
        """
        return StateHook(self, hook, before=True, loads=True)

    def register_load_state_dict_post_hook(self, hook: Callable[..., object]) -> Hook:
        """Run a function after each `load_state_dict`, before its errors about names are raised.

        Parameters
        ----------
        hook : callable
            Called as hook(module, incompatible_keys); it may change the two lists.

        Returns
        -------
        Hook
            A handle; its `remove()` takes the hook away.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Linear(2, 3)
        >>> _ = layer.register_load_state_dict_post_hook(lambda module, keys: print(keys))
        >>> _ = layer.load_state_dict(layer.state_dict())
        IncompatibleKeys(missing_keys=[], unexpected_keys=[])
        """
        return StateHook(self, hook, before=False, loads=True)
