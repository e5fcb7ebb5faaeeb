"""Parameter groups: dicts of options in which Adam's two decays also are PyTorch's pair `betas`."""

from __future__ import annotations

from typing import Any


class ParameterGroup(dict[str, Any]):
    """The options of parameters and the parameters, "params".

    `group["betas"]` is (group["beta1"], group["beta2"]), also to be set.
    """

    def _has_pair(self, name: object) -> bool:
        return name == "betas" and dict.__contains__(self, "beta1")

    def __missing__(self, name: str) -> tuple[float, float]:
        if self._has_pair(name):
            return self["beta1"], self["beta2"]
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if self._has_pair(name):
            self["beta1"], self["beta2"] = beta_options(value).values()
        else:
            super().__setitem__(name, value)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or self._has_pair(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The option of that name, or `default`."""
        try:
            return self[name]
        except KeyError:
            return default


def beta_options(betas: tuple[float, float]) -> dict[str, float]:
    """PyTorch's pair of decays as the options beta1 and beta2."""
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas must be a pair of numbers, got {betas!r}")
    return {"beta1": betas[0], "beta2": betas[1]}
