// setting.h: a context in which an attribute of an object has another value.
//
// Python runs signal handlers where a function written in Python begins. A KeyboardInterrupt there
// would leave the attribute as it was inside; between a body and a C function there is no such
// place.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

namespace needle {

class Setting {
 public:
  // `outer` names the attribute with a list: the values outside of the contexts that one is in.
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
