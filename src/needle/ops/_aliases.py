"""Other names of functions, most of them PyTorch's or NumPy's. `x.mul(y)` is `x.multiply(y)`."""

from __future__ import annotations

from ._arithmetic import divide, multiply, negate, power, subtract
from ._comparison import equal, greater, greater_equal, less, less_equal, not_equal
from ._elementwise import abs
from ._joining import concatenate
from ._math import trunc
from ._parts import vstack
from ._products import outer
from ._reduction import summation
from ._reordering import movedim, swapaxes
from ._selection import take_along_dim
from ._transcendental import acos, acosh, asin, asinh, atan, atan2, atanh

absolute = abs
arccos = acos
arccosh = acosh
arcsin = asin
arcsinh = asinh
arctan = atan
arctan2 = atan2
arctanh = atanh
cat = concatenate
concat = concatenate
div = divide
eq = equal
fix = trunc
ge = greater_equal
ger = outer
gt = greater
le = less_equal
lt = less
moveaxis = movedim
mul = multiply
ne = not_equal
neg = negate
negative = negate
pow = power
row_stack = vstack
sub = subtract
sum = summation
swapdims = swapaxes
take_along_axis = take_along_dim
true_divide = divide

__all__ = [
    "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cat",
    "concat", "div", "eq", "fix", "ge", "ger", "gt", "le", "lt", "moveaxis", "mul", "ne", "neg",
    "negative", "pow", "row_stack", "sub", "sum", "swapdims", "take_along_axis", "true_divide",
]  # fmt: skip
