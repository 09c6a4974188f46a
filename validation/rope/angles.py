"""Sees the angles that some code takes the sine and cosine of, whatever that code is."""

from collections.abc import Callable
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SIN = (torch.sin, torch.Tensor.sin, torch.sin_, torch.Tensor.sin_)
_COS = (torch.cos, torch.Tensor.cos, torch.cos_, torch.Tensor.cos_)


class ObservedAngles(TorchFunctionMode):
    """While it is entered, keeps the last angles of the wanted width, of sine and of cosine.

    The angle at position 1 is the inverse frequency that the code effectively uses.

    Attributes:
        sin: argument of the last sine, radians, None if there was none.
        cos: argument of the last cosine.
    """

    def __init__(self, head_dim: int) -> None:
        """Looks for matrices with a column a dimension, or one a pair of dimensions."""
        super().__init__()
        self._head_dim = head_dim
        self.sin: Float[Tensor, "pos pair"] | None = None
        self.cos: Float[Tensor, "pos pair"] | None = None

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SIN:
            self.sin = self._of_pairs(args, kwargs, self.sin)
        elif func in _COS:
            self.cos = self._of_pairs(args, kwargs, self.cos)
        elif func is torch.polar and len(args) == 2:
            self.sin = self.cos = self._of_pairs(args[1:], {}, self.cos)
        return func(*args, **kwargs)

    def _of_pairs(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], earlier: Tensor | None
    ) -> Tensor | None:
        angles = args[0] if args else kwargs.get("input")
        if not isinstance(angles, Tensor) or not angles.is_floating_point():
            return earlier
        half = self._head_dim // 2
        if angles.ndim < 2 or angles.shape[-1] not in (half, self._head_dim):
            return earlier
        # Llama's layout: dimension i and dimension i + head_dim / 2 are one pair. Copied, because
        # what follows may write over them.
        return angles.detach()[..., :half].reshape(-1, half).clone()
