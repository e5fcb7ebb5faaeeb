// setting.h: a context manager that sets an attribute of an object temporarily.
//
// Python runs signal handlers where a function written in Python begins. A KeyboardInterrupt there
// would prevent the old value from being restored. Between the body of a `with` statement and a C
// function no handler runs.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

namespace needle {

class Setting {
 public:
  // `outer` is the name of an attribute that holds a list, the stack of the values to restore.
  Setting(nanobind::object target, nanobind::str name, nanobind::object value, nanobind::str outer)
      : target_(std::move(target)),
        name_(std::move(name)),
        value_(std::move(value)),
        outer_(std::move(outer)) {}

  void enter() {
    nanobind::borrow<nanobind::list>(target_.attr(outer_)).append(target_.attr(name_));
    target_.attr(name_) = value_;
  }

  void exit(const nanobind::args&) { target_.attr(name_) = target_.attr(outer_).attr("pop")(); }

 private:
  nanobind::object target_;
  nanobind::str name_;
  nanobind::object value_;
  nanobind::str outer_;
};

}  // namespace needle
