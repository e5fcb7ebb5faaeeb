// views.h: NDArrays over the memory of another one, under another layout.
//
// Each function gives the view that the function of that name in needle.backend_ndarray.views or
// indexing gives, on any device, for the arguments that programs pass most: ints and tuples of
// them. For everything else, errors included, the result is an invalid object.
#pragma once

#include <nanobind/nanobind.h>

namespace needle {

namespace nb = nanobind;

// The shape that `given`, what stands in the brackets of `x.reshape(…)`, means for the array `x`:
// a tuple without -1. Invalid if it does not fit.
nb::object resolved_shape(nb::handle x, nb::handle given);

nb::object reshape_view(nb::handle x, nb::handle shape);
// `axes` are two, or None for the last two.
nb::object swap_view(nb::handle x, nb::handle axes);
nb::object permute_view(nb::handle x, nb::handle order);
nb::object broadcast_view(nb::handle x, nb::handle shape);
nb::object index_view(nb::handle x, nb::handle key);

}  // namespace needle
