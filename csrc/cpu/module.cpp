// module.cpp: `needle._core`, the kernels as Python functions that take NDArray objects.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "guards.h"
#include "kernels.h"
#include "ndarray.h"
#include "program.h"
#include "random.h"
#include "threads.h"

using namespace nanobind::literals;

namespace needle {
namespace {

// ---- buffers and arguments --------------------------------------------------------------------

Buffer* allocate(nb::int_ size, nb::handle dtype) {
  const DType type = dtype_of(dtype);
  int overflow = 0;
  const int64_t count = PyLong_AsLongLongAndOverflow(size.ptr(), &overflow);
  if (overflow || count < 0 || count > MAX_ELEMENTS) {
    throw nb::value_error("[allocate] an array must have between 0 and 2^46 elements");
  }
  return new Buffer(count, type);
}

Buffer* wrap(nb::object array) {
  Py_buffer memory;
  const DType type = dtype_of(array.attr("dtype"));
  if (PyObject_GetBuffer(array.ptr(), &memory, PyBUF_CONTIG) != 0) throw nb::python_error();
  void* data = memory.buf;
  const int64_t size = memory.len / item_size(type);
  PyBuffer_Release(&memory);  // `owner` keeps the array, and so its memory
  return new Buffer(data, size, type, std::move(array));
}

Scalar scalar_of(nb::handle value) {
  if (PyFloat_Check(value.ptr())) {
    const double real = PyFloat_AS_DOUBLE(value.ptr());
    const bool fits = real >= -0x1p63 && real < 0x1p63;
    return {real, fits ? static_cast<int64_t>(real) : INT64_MIN};
  }
  if (PyLong_Check(value.ptr())) {
    int overflow = 0;
    const int64_t integer = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    return {overflow ? PyLong_AsDouble(value.ptr()) : static_cast<double>(integer), integer};
  }
  // NumPy's scalars
  if (PyIndex_Check(value.ptr())) return scalar_of(nb::steal(PyNumber_Index(value.ptr())));
  nb::object number = nb::steal(PyNumber_Float(value.ptr()));
  if (!number.is_valid()) throw nb::python_error();
  return scalar_of(number);
}

template <typename Op>
Op find_op(const std::unordered_map<std::string_view, Op>& ops, nb::handle name, const char* what) {
  Py_ssize_t length = 0;
  const char* text =
      PyUnicode_Check(name.ptr()) ? PyUnicode_AsUTF8AndSize(name.ptr(), &length) : nullptr;
  const auto found = text ? ops.find(std::string_view(text, length)) : ops.end();
  if (found == ops.end()) {
    throw nb::value_error(
        (std::string("there is no ") + what + " operation " + nb::cast<std::string>(nb::repr(name)))
            .c_str());
  }
  return found->second;
}

#define NEEDLE_UNARY_NAME(name) {#name, UnaryOp::name},
#define NEEDLE_BINARY_NAME(name) {#name, BinaryOp::name},
#define NEEDLE_REDUCE_NAME(name) {#name, ReduceOp::name},
const std::unordered_map<std::string_view, UnaryOp> UNARY_OPS{
    NEEDLE_UNARY_OPS(NEEDLE_UNARY_NAME) NEEDLE_PREDICATES(NEEDLE_UNARY_NAME)};
const std::unordered_map<std::string_view, BinaryOp> BINARY_OPS{
    NEEDLE_BINARY_OPS(NEEDLE_BINARY_NAME) NEEDLE_COMPARISONS(NEEDLE_BINARY_NAME)};
const std::unordered_map<std::string_view, ReduceOp> REDUCE_OPS{
    NEEDLE_REDUCE_OPS(NEEDLE_REDUCE_NAME)};

// Other Python threads run during work that is worth the switch (some tens of microseconds).
template <typename Work>
void run(int64_t elements, const Work& work) {
  if (elements < (1 << 16)) {
    work();
    return;
  }
  nb::gil_scoped_release release;
  work();
}

void require_same_shape(const View& a, const View& b) {
  if (a.ndim != b.ndim || std::memcmp(a.shape, b.shape, a.ndim * sizeof(int64_t)) != 0) {
    throw nb::value_error("the arrays of a primitive must have one shape");
  }
}

int axis_of(const View& x, int axis) {
  if (axis < 0 || axis >= x.ndim) throw nb::value_error("axis is out of range");
  return axis;
}

// ---- primitives -------------------------------------------------------------------------------

void fill(nb::handle out, nb::handle value) {
  const View o = view_of(out);
  const Scalar v = scalar_of(value);
  run(size_of(o), [&] { kernels().fill(o, v); });
}

void copy(nb::handle x, nb::handle out) {
  const View a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  run(size_of(o), [&] { kernels().copy(a, o); });
}

void unary(nb::handle op, nb::handle x, nb::handle out) {
  const UnaryOp code = find_op(UNARY_OPS, op, "unary");
  const View a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  run(size_of(o), [&] { kernels().unary(code, a, o); });
}

void binary(nb::handle op, nb::handle a, nb::handle b, nb::handle out) {
  const BinaryOp code = find_op(BINARY_OPS, op, "binary");
  const View x = view_of(a), y = view_of(b), o = view_of(out);
  require_same_shape(x, o);
  require_same_shape(y, o);
  if (x.dtype != y.dtype) throw nb::type_error("the operands of a primitive must have one dtype");
  run(size_of(o), [&] { kernels().binary(code, x, y, o); });
}

void binary_scalar(nb::handle op, nb::handle x, nb::handle scalar, nb::handle out, bool reverse) {
  const BinaryOp code = find_op(BINARY_OPS, op, "binary");
  const View a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  const Scalar value = scalar_of(scalar);
  run(size_of(o), [&] { kernels().binary_scalar(code, a, value, o, reverse); });
}

void where(nb::handle cond, nb::handle a, nb::handle b, nb::handle out) {
  const View c = view_of(cond), x = view_of(a), y = view_of(b), o = view_of(out);
  for (const View* v : {&c, &x, &y}) require_same_shape(*v, o);
  if (c.dtype != DType::Bool) throw nb::type_error("[where] cond must be bool");
  run(size_of(o), [&] { kernels().where(c, x, y, o); });
}

void reduce(nb::handle op, nb::handle x, nb::handle axes, nb::handle out) {
  const ReduceOp code = find_op(REDUCE_OPS, op, "reduce");
  const View a = view_of(x), o = view_of(out);
  int64_t list[MAX_DIMS];
  const int count = read_ints(axes.ptr(), list);
  unsigned mask = 0;
  for (int i = 0; i < count; ++i) mask |= 1u << axis_of(a, static_cast<int>(list[i]));
  if (a.ndim != o.ndim) throw nb::value_error("[reduce] out must keep the axes");
  run(size_of(a), [&] { kernels().reduce(code, a, mask, o); });
}

void argreduce(nb::handle op, nb::handle x, int axis, nb::handle out) {
  const View a = view_of(x), o = view_of(out);
  const bool largest = nb::cast<std::string>(op) == "argmax";
  axis_of(a, axis);
  run(size_of(a), [&] { kernels().argreduce(largest, a, axis, o); });
}

void cumsum(nb::handle x, int axis, nb::handle out) {
  const View a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  axis_of(a, axis);
  run(size_of(a), [&] { kernels().cumsum(a, axis, o); });
}

void argsort(nb::handle x, int axis, bool descending, nb::handle out) {
  const View a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  axis_of(a, axis);
  run(size_of(a) * 16, [&] { kernels().argsort(a, axis, descending, o); });
}

void matmul(nb::handle a, nb::handle b, nb::handle out, nb::handle bias) {
  const View x = view_of(a), y = view_of(b), o = view_of(out);
  View row;
  const bool has_bias = !bias.is_none();
  if (has_bias) row = view_of(bias);
  if (x.ndim < 2 || x.ndim != y.ndim || x.ndim != o.ndim) {
    throw nb::value_error("[matmul] the arrays of the primitive must have equal numbers of axes");
  }
  if (has_bias && (row.ndim != 1 || row.shape[0] != o.shape[o.ndim - 1] || row.dtype != o.dtype)) {
    throw nb::value_error("[matmul] bias must be (n,) and of the product's dtype");
  }
  run(size_of(o) * x.shape[x.ndim - 1] / 8,
      [&] { kernels().matmul(x, y, o, has_bias ? &row : nullptr); });
}

void take_rows(nb::handle x, nb::handle index, nb::handle out) {
  const View a = view_of(x), i = view_of(index), o = view_of(out);
  run(size_of(o), [&] { kernels().take_rows(a, i, o); });
}

void add_rows(nb::handle out, nb::handle index, nb::handle src) {
  const View o = view_of(out), i = view_of(index), s = view_of(src);
  run(size_of(s), [&] { kernels().add_rows(o, i, s); });
}

// ---- fused kernels ----------------------------------------------------------------------------

template <bool LOGARITHM>
void softmax(nb::handle x, nb::handle out) {
  const View a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  if (a.ndim != 2 || a.strides[1] != 1) throw nb::value_error("[softmax] x must be compact rows");
  run(size_of(o) * 8, [&] { kernels().softmax(a, o, LOGARITHM); });
}

void cross_entropy(nb::handle logits, nb::handle labels, nb::handle losses, nb::handle lse,
                   int64_t ignore_index, double smoothing) {
  const View x = view_of(logits), y = view_of(labels), o = view_of(losses), l = view_of(lse);
  run(size_of(x) * 8, [&] { kernels().cross_entropy(x, y, o, l, ignore_index, smoothing); });
}
void cross_entropy_grad(nb::handle logits, nb::handle labels, nb::handle scale, nb::handle lse,
                        nb::handle out, int64_t ignore_index, double smoothing) {
  const View x = view_of(logits), y = view_of(labels), s = view_of(scale), l = view_of(lse),
             o = view_of(out);
  run(size_of(x) * 8,
      [&] { kernels().cross_entropy_grad(x, y, s, l, o, ignore_index, smoothing); });
}

void batch_norm(nb::handle x, nb::handle weight, nb::handle bias, double eps, nb::handle out,
                nb::handle mean, nb::handle var) {
  const View a = view_of(x), w = view_of(weight), b = view_of(bias), o = view_of(out),
             m = view_of(mean), v = view_of(var);
  run(size_of(a) * 4, [&] { kernels().batch_norm(a, w, b, eps, o, m, v); });
}

void batch_norm_grad(nb::handle g, nb::handle x, nb::handle weight, nb::handle mean, nb::handle var,
                     double eps, nb::handle dx, nb::handle dweight, nb::handle dbias) {
  const View gv = view_of(g), a = view_of(x), w = view_of(weight), m = view_of(mean),
             v = view_of(var), dxv = view_of(dx), dw = view_of(dweight), db = view_of(dbias);
  run(size_of(a) * 4, [&] { kernels().batch_norm_grad(gv, a, w, m, v, eps, dxv, dw, db); });
}

void layer_norm(nb::handle x, nb::handle weight, nb::handle bias, double eps, nb::handle out,
                nb::handle mean, nb::handle rstd) {
  const View a = view_of(x), w = view_of(weight), b = view_of(bias), o = view_of(out),
             m = view_of(mean), r = view_of(rstd);
  run(size_of(a) * 4, [&] { kernels().layer_norm(a, w, b, eps, o, m, r); });
}

void layer_norm_grad(nb::handle g, nb::handle x, nb::handle weight, nb::handle mean,
                     nb::handle rstd, nb::handle dx, nb::handle dweight, nb::handle dbias) {
  const View gv = view_of(g), a = view_of(x), w = view_of(weight), m = view_of(mean),
             r = view_of(rstd), dxv = view_of(dx), dw = view_of(dweight), db = view_of(dbias);
  run(size_of(a) * 4, [&] { kernels().layer_norm_grad(gv, a, w, m, r, dxv, dw, db); });
}

// Lists of one array a parameter. An empty list of moments stands for none.
std::vector<OptimizerStep> optimizer_steps(nb::list params, nb::list grads, nb::list first,
                                           nb::list second, nb::list outs) {
  std::vector<OptimizerStep> steps(params.size());
  for (const nb::list& list : {grads, outs}) {
    if (list.size() != steps.size()) throw nb::value_error("the lists must have one length");
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    OptimizerStep& s = steps[i];
    s.parameter = view_of(params[i]);
    s.gradient = view_of(grads[i]);
    s.out = view_of(outs[i]);
    s.first.data = s.second.data = nullptr;
    if (i < first.size()) s.first = view_of(first[i]);
    if (i < second.size()) s.second = view_of(second[i]);
    for (const View* v : {&s.parameter, &s.gradient}) {
      require_same_shape(*v, s.out);
      if (v->dtype != s.out.dtype) throw nb::type_error("parameters and gradients differ in dtype");
    }
  }
  return steps;
}

int64_t total_size(const std::vector<OptimizerStep>& steps) {
  int64_t n = 0;
  for (const OptimizerStep& s : steps) n += size_of(s.out);
  return n;
}

void sgd(nb::list params, nb::list grads, nb::list momenta, nb::list outs, double lr,
         double momentum, double weight_decay, double dampening, bool nesterov) {
  const auto steps = optimizer_steps(params, grads, momenta, nb::list(), outs);
  const SgdOptions options{lr, momentum, weight_decay, dampening, nesterov};
  run(total_size(steps), [&] {
    for (const OptimizerStep& s : steps) kernels().sgd(s, options);
  });
}

void adam(nb::list params, nb::list grads, nb::list ms, nb::list vs, nb::list outs, double lr,
          double beta1, double beta2, double eps, double weight_decay, int64_t step,
          bool decoupled) {
  const auto steps = optimizer_steps(params, grads, ms, vs, outs);
  if (ms.size() != steps.size() || vs.size() != steps.size()) {
    throw nb::value_error("[adam] needs both moments of every parameter");
  }
  const AdamOptions options{lr, beta1, beta2, eps, weight_decay, step, decoupled};
  run(total_size(steps), [&] {
    for (const OptimizerStep& s : steps) kernels().adam(s, options);
  });
}

void matmul_tiled(const Buffer& a, const Buffer& b, Buffer& out, int64_t m, int64_t n, int64_t p) {
  const bool tiled =
      m >= 0 && n >= 0 && p >= 0 && m % TILE_SIZE == 0 && n % TILE_SIZE == 0 && p % TILE_SIZE == 0;
  if (!tiled || a.size < m * n || b.size < n * p || out.size < m * p) {
    throw nb::value_error("[matmul_tiled] m, n and p must be multiples of 8 that fit the buffers");
  }
  for (const Buffer* buffer : {&a, &b, static_cast<const Buffer*>(&out)}) {
    if (buffer->dtype != DType::Float32) throw nb::type_error("[matmul_tiled] needs float32");
  }
  kernels().matmul_tiled(static_cast<float*>(a.data), static_cast<float*>(b.data),
                         static_cast<float*>(out.data), m, n, p);
}

template <typename T>
using Array1 = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Array2 = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void softmax_regression_epoch(Array2<const float> x, Array1<const uint8_t> y, Array2<float> theta,
                              float lr, size_t batch) {
  if (x.shape(0) != y.shape(0) || x.shape(1) != theta.shape(0) || batch < 1) {
    throw nb::value_error(
        "[softmax_regression_epoch] X (m, n), y (m,) and theta (n, k) must agree "
        "and batch be at least 1");
  }
  for (size_t i = 0; i < y.shape(0); ++i) {
    if (y.data()[i] >= theta.shape(1)) {
      throw nb::index_error("[softmax_regression_epoch] a label is not below the classes of theta");
    }
  }
  nb::gil_scoped_release release;
  kernels().softmax_regression_epoch(x.data(), y.data(), theta.data(), x.shape(0), x.shape(1),
                                     theta.shape(1), lr, batch);
}

// ---- convolution, recurrence, attention ---------------------------------------------------------

using Pair = std::array<int64_t, 2>;

// conv2d and its two gradients take their arrays in the order first operand, second, result.
template <auto KERNEL>
void convolution(nb::handle first, nb::handle second, nb::handle out, Pair stride, Pair dilation,
                 Pair padding, int64_t groups) {
  const View a = view_of(first), b = view_of(second), o = view_of(out);
  const Convolution geometry{
      {stride[0], stride[1]}, {dilation[0], dilation[1]}, {padding[0], padding[1]}, groups};
  run(std::max(size_of(a), size_of(o)) * 64, [&] { (kernels().*KERNEL)(a, b, o, geometry); });
}

void lstm(nb::handle gates, nb::handle w, nb::handle h, nb::handle c) {
  const View g = view_of(gates), m = view_of(w), hv = view_of(h), cv = view_of(c);
  run(size_of(g) * 64, [&] { kernels().lstm(g, m, hv, cv); });
}

void lstm_grad(nb::handle gates, nb::handle w, nb::handle h, nb::handle c, nb::handle dh,
               nb::handle dh0, nb::handle dc0) {
  const View g = view_of(gates), m = view_of(w), hv = view_of(h), cv = view_of(c), d = view_of(dh),
             first = view_of(dh0), cell = view_of(dc0);
  run(size_of(g) * 64, [&] { kernels().lstm_grad(g, m, hv, cv, d, first, cell); });
}

void rnn(nb::handle gates, nb::handle w, nb::handle h, bool relu) {
  const View g = view_of(gates), m = view_of(w), hv = view_of(h);
  run(size_of(g) * 64, [&] { kernels().rnn(g, m, hv, relu); });
}

void rnn_grad(nb::handle gates, nb::handle w, nb::handle h, nb::handle dh, nb::handle dh0,
              bool relu) {
  const View g = view_of(gates), m = view_of(w), hv = view_of(h), d = view_of(dh),
             first = view_of(dh0);
  run(size_of(g) * 64, [&] { kernels().rnn_grad(g, m, hv, d, first, relu); });
}

void attention(nb::handle q, nb::handle k, nb::handle v, nb::handle mask, nb::handle out,
               nb::handle lse, double scale, bool causal) {
  const View qv = view_of(q), kv = view_of(k), vv = view_of(v), o = view_of(out), l = view_of(lse);
  const View m = mask.is_none() ? View{} : view_of(mask);
  run(size_of(o) * 64,
      [&] { kernels().attention(qv, kv, vv, mask.is_none() ? nullptr : &m, o, l, scale, causal); });
}

void attention_grad(nb::handle g, nb::handle q, nb::handle k, nb::handle v, nb::handle mask,
                    nb::handle out, nb::handle lse, nb::handle dq, nb::handle dk, nb::handle dv,
                    double scale, bool causal) {
  const View gv = view_of(g), qv = view_of(q), kv = view_of(k), vv = view_of(v), o = view_of(out),
             l = view_of(lse), dqv = view_of(dq), dkv = view_of(dk), dvv = view_of(dv);
  const View m = mask.is_none() ? View{} : view_of(mask);
  run(size_of(o) * 64, [&] {
    kernels().attention_grad(gv, qv, kv, vv, mask.is_none() ? nullptr : &m, o, l, dqv, dkv, dvv,
                             scale, causal);
  });
}

// ---- the host's side --------------------------------------------------------------------------

nb::dlpack::dtype dlpack_dtype(DType dtype) {
  switch (dtype) {
    case DType::Float32:
      return nb::dtype<float>();
    case DType::Float64:
      return nb::dtype<double>();
    case DType::Int32:
      return nb::dtype<int32_t>();
    case DType::Int64:
      return nb::dtype<int64_t>();
    case DType::UInt8:
      return nb::dtype<uint8_t>();
    case DType::Float16:
      return {static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
    case DType::BFloat16:
      throw nb::type_error("[view] NumPy has no bfloat16");
    default:
      return nb::dtype<bool>();
  }
}

nb::object numpy_view(nb::handle x) {
  const View v = view_of(x);
  size_t shape[MAX_DIMS];
  for (int i = 0; i < v.ndim; ++i) shape[i] = static_cast<size_t>(v.shape[i]);
  nb::handle owner(field(x.ptr(), registered.handle));
  return nb::cast(
      nb::ndarray<nb::numpy>(v.data, v.ndim, shape, owner, v.strides, dlpack_dtype(v.dtype)),
      nb::rv_policy::reference);
}

nb::dict memory_stats() {
  const MemoryStats stats = Pool::instance().stats();
  nb::dict result;
  result["live_bytes"] = stats.live_bytes;
  result["pooled_bytes"] = stats.pooled_bytes;
  result["peak_bytes"] = stats.peak_bytes;
  result["system_allocations"] = stats.system_allocations;
  return result;
}

}  // namespace

NB_MODULE(_core, m) {
  nb::set_leak_warnings(false);  // arrays of a program's globals live until the process ends
  kernels();                     // a bad NEEDLE_SIMD or NEEDLE_NUM_THREADS is an error at import
  num_threads();

  nb::class_<Buffer>(m, "Buffer", nb::is_final())
      .def("ptr", [](const Buffer& b) { return reinterpret_cast<uintptr_t>(b.data); })
      .def_prop_ro("size", [](const Buffer& b) { return b.size; })
      .def_prop_ro("nbytes", &Buffer::nbytes)
      .def_prop_ro("dtype", [](const Buffer& b) {
        return nb::borrow(registered.dtypes[static_cast<int>(b.dtype)]);
      });

  nb::class_<Program>(m, "Program")
      .def(nb::init<const std::string&, nb::sequence, nb::sequence, nb::sequence, nb::sequence,
                    int64_t>(),
           "path"_a, "arguments"_a, "states"_a, "constants"_a, "results"_a, "arena_bytes"_a)
      .def("fits", &Program::fits, "states"_a)
      .def("run", &Program::run, "arguments"_a, "states"_a, "clock"_a)
      .def_prop_ro("arena_bytes", &Program::arena_bytes);

  m.attr("TILE_SIZE") = TILE_SIZE;
  m.def("register", register_types);
  m.def("register_values", register_values);
  m.def("first_changed", first_changed);
  m.def("allocate", allocate, nb::rv_policy::take_ownership);
  m.def("wrap", wrap, nb::rv_policy::take_ownership);
  m.def("view", numpy_view);
  m.def("fill", fill);
  m.def("copy", copy);
  m.def("unary", unary);
  m.def("binary", binary);
  m.def("binary_scalar", binary_scalar, "op"_a, "x"_a, "scalar"_a, "out"_a, "reverse"_a = false);
  m.def("where", where);
  m.def("reduce", reduce);
  m.def("argreduce", argreduce);
  m.def("cumsum", cumsum);
  m.def("argsort", argsort);
  m.def("matmul", matmul, "a"_a, "b"_a, "out"_a, "bias"_a.none() = nb::none());
  m.def("take_rows", take_rows);
  m.def("add_rows", add_rows);

  m.def("softmax", softmax<false>);
  m.def("log_softmax", softmax<true>);
  m.def("cross_entropy", cross_entropy);
  m.def("cross_entropy_grad", cross_entropy_grad);
  m.def("batch_norm", batch_norm);
  m.def("batch_norm_grad", batch_norm_grad);
  m.def("layer_norm", layer_norm);
  m.def("layer_norm_grad", layer_norm_grad);
  m.def("conv2d", convolution<&KernelTable::conv2d>);
  m.def("conv2d_input_grad", convolution<&KernelTable::conv2d_input_grad>);
  m.def("conv2d_weight_grad", convolution<&KernelTable::conv2d_weight_grad>);
  m.def("lstm", lstm);
  m.def("lstm_grad", lstm_grad);
  m.def("rnn", rnn);
  m.def("rnn_grad", rnn_grad);
  m.def("attention", attention, "q"_a, "k"_a, "v"_a, "mask"_a.none(), "out"_a, "lse"_a, "scale"_a,
        "causal"_a);
  m.def("attention_grad", attention_grad, "g"_a, "q"_a, "k"_a, "v"_a, "mask"_a.none(), "out"_a,
        "lse"_a, "dq"_a, "dk"_a, "dv"_a, "scale"_a, "causal"_a);
  m.def("sgd", sgd);
  m.def("adam", adam);
  m.def("matmul_tiled", matmul_tiled);
  m.def("softmax_regression_epoch", softmax_regression_epoch);

  m.def("memory_stats", memory_stats);
  m.def("empty_cache", [] { Pool::instance().empty_cache(); });
  m.def("set_num_threads", set_num_threads);
  m.def("get_num_threads", num_threads);
  // The address of the state of NumPy's MT19937, whose lock the caller holds.
  m.def("advance_mt19937", [](uintptr_t state, int64_t words) {
    reinterpret_cast<MersenneTwister*>(state)->advance(words);
  });
  m.def("simd_level", [] { return kernels().name; });
  m.def("peak_flops", [](double seconds) { return kernels().peak_flops(seconds); });
}

}  // namespace needle
