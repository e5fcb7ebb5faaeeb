// eager.h: the call of an op outside of compiled functions, without a line of Python in between.
#pragma once

#include <nanobind/nanobind.h>

namespace needle {

namespace nb = nanobind;

// Adds the type EagerCall to the module. See needle.autograd.op for what it stands for.
void register_eager_call(nb::module_ module);

// What an eager call looks at. `modes` are the dicts and objects that hold the state of
// needle.autograd, by name.
void register_autograd(nb::handle tensor, nb::dict modes);

// The number of a kernel in the class attribute `direct` of an op whose `compute` is that kernel.
int64_t direct_kernel(const char* kind, nb::handle name);

// The view that `op_class(argument)(x)` gives, recorded with such an op; without making one if
// nothing is recorded. None if there is more to be done: the caller then calls the op.
nb::object eager_view(nb::handle op_class, nb::handle x, nb::handle argument);

}  // namespace needle
