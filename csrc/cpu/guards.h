// guards.h: the guards of compiled functions, which check whether Python objects still hold the
// values that tracing read from them.
//
// Values are compared by identity. A guard costs some ten nanoseconds and is checked before every
// call of a compiled function.
#pragma once

#include <nanobind/nanobind.h>

namespace needle {

namespace nb = nanobind;

// Whether `holder`, a list or a dict, contains exactly the objects of `then`, a tuple or a dict, in
// the same order. The value `anything` in a dict matches any object. Other kinds of containers and
// different key objects count as changed.
inline bool has_contents(PyObject* holder, PyObject* then, PyObject* anything) {
  if (PyList_CheckExact(holder) && PyTuple_Check(then)) {
    const Py_ssize_t size = PyList_GET_SIZE(holder);
    if (size != PyTuple_GET_SIZE(then)) return false;
    for (Py_ssize_t i = 0; i < size; ++i) {
      if (PyList_GET_ITEM(holder, i) != PyTuple_GET_ITEM(then, i)) return false;
    }
    return true;
  }
  if (!PyDict_Check(holder) || !PyDict_Check(then)) return false;
  if (PyDict_GET_SIZE(holder) != PyDict_GET_SIZE(then)) return false;
  PyObject *key, *value, *key_now, *now;
  Py_ssize_t position = 0, position_now = 0;
  while (PyDict_Next(then, &position, &key, &value)) {
    if (!PyDict_Next(holder, &position_now, &key_now, &now) || key_now != key) return false;
    if (now != value && value != anything) return false;
  }
  return true;
}

// Whether the place `key` of `holder` holds the identical object `then`. The place is an item if
// `holder` is a dict, all contents if `key` is None, and an attribute otherwise. `missing` means
// that the place holds nothing.
inline bool has_item(PyObject* holder, PyObject* key, PyObject* then, PyObject* missing) {
  if (key == Py_None) return has_contents(holder, then, missing);
  if (PyDict_Check(holder)) {
    PyObject* now = PyDict_GetItemWithError(holder, key);
    if (!now && PyErr_Occurred()) throw nb::python_error();
    return now == then || (!now && then == missing);
  }
  nb::object now = nb::steal(PyObject_GetAttr(holder, key));
  if (!now.is_valid()) PyErr_Clear();
  return now.ptr() == then;
}

// The index of the first place from `start` on that has changed; -1 if none has.
inline int64_t first_changed(nb::list holders, nb::list keys, nb::list values, nb::handle missing,
                             int64_t start) {
  if (start < 0) throw nb::value_error("[first_changed] start must not be negative");
  // An attribute may be a property, which may run any code. So the sizes of the lists are read
  // again for each place.
  for (int64_t i = start; i < PyList_GET_SIZE(holders.ptr()); ++i) {
    if (i >= PyList_GET_SIZE(keys.ptr()) || i >= PyList_GET_SIZE(values.ptr()))
      throw nb::value_error("[first_changed] needs as many holders as keys and values");
    const nb::object holder = nb::borrow(PyList_GET_ITEM(holders.ptr(), i));
    const nb::object key = nb::borrow(PyList_GET_ITEM(keys.ptr(), i));
    const nb::object then = nb::borrow(PyList_GET_ITEM(values.ptr(), i));
    if (!has_item(holder.ptr(), key.ptr(), then.ptr(), missing.ptr())) return i;
  }
  return -1;
}

}  // namespace needle
