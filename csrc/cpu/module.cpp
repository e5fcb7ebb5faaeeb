// module.cpp: `needle._core`, the kernels as Python functions that take NDArray objects.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "buffer.h"
#include "checks.h"
#include "contracts.h"
#include "eager.h"
#include "guards.h"
#include "kernels.h"
#include "names.h"
#include "ndarray.h"
#include "program.h"
#include "random.h"
#include "released_gil.h"
#include "setting.h"
#include "threads.h"

using namespace nanobind::literals;

namespace needle {
namespace {

// ---- buffers and arguments --------------------------------------------------------------------

nb::object allocate(nb::int_ size, nb::handle dtype) {
  const DType type = dtype_of(dtype);
  int overflow = 0;
  const int64_t count = PyLong_AsLongLongAndOverflow(size.ptr(), &overflow);
  if (overflow || count < 0 || count > MAX_ELEMENTS) {
    throw nb::value_error("[allocate] an array must have between 0 and 2^46 elements");
  }
  return make_buffer(count, type);
}

nb::object wrap(nb::object array) {
  const DType type = dtype_of(array.attr("dtype"));
  // The buffer holds a memoryview of the array, whose export keeps the memory from being moved.
  nb::object memory = nb::steal(PyMemoryView_FromObject(array.ptr()));
  if (!memory.is_valid()) throw nb::python_error();
  const Py_buffer& view = *PyMemoryView_GET_BUFFER(memory.ptr());
  const auto address = reinterpret_cast<uintptr_t>(view.buf);
  if (view.readonly || !PyBuffer_IsContiguous(&view, 'C') || address % view.itemsize != 0 ||
      view.itemsize != item_size(type)) {
    throw nb::value_error(
        "[wrap] the array must be contiguous, aligned, writable and of its dtype");
  }
  return make_buffer(view.buf, view.len / item_size(type), type, std::move(memory));
}

// A Python number, or one of NumPy's.
Scalar scalar_of(nb::handle value) {
  if (PyFloat_Check(value.ptr())) {
    const double real = PyFloat_AS_DOUBLE(value.ptr());
    const bool fits = real >= -0x1p63 && real < 0x1p63;
    return {real, fits ? static_cast<int64_t>(real) : INT64_MIN};
  }
  if (PyLong_Check(value.ptr())) {
    int overflow = 0;
    const int64_t integer = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    const double real = overflow ? PyLong_AsDouble(value.ptr()) : static_cast<double>(integer);
    if (real == -1 && PyErr_Occurred()) throw nb::python_error();  // too large for a double
    return {real, integer};
  }
  // PyIndex_Check is true for every array. One of floats raises TypeError when it is converted.
  nb::object number = nb::steal(PyIndex_Check(value.ptr()) ? PyNumber_Index(value.ptr()) : nullptr);
  if (!number.is_valid()) {
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
    PyErr_Clear();
    number = nb::steal(PyNumber_Float(value.ptr()));
  }
  if (!number.is_valid()) throw nb::python_error();
  return scalar_of(number);
}

void require_same_shape(const View& a, const View& b) {
  if (a.ndim != b.ndim || std::memcmp(a.shape, b.shape, a.ndim * sizeof(int64_t)) != 0) {
    throw nb::value_error("the arrays of a primitive must have one shape");
  }
}

void require_dtype(const char* op, const char* name, const View& v, DType dtype) {
  if (v.dtype != dtype) refuse_argument(op, name, v, dtype, v.shape, v.ndim, Layout::Strided);
}

int axis_of(const View& x, int64_t axis) {
  if (axis < 0 || axis >= x.ndim) throw nb::value_error("axis is out of range");
  return static_cast<int>(axis);
}

// ---- primitives -------------------------------------------------------------------------------

void fill(nb::handle out, nb::handle value) {
  const Scalar v = scalar_of(value);
  const Array o = view_of(out);
  run(size_of(o), [&] { kernels().fill(o, v); });
}

void copy(nb::handle x, nb::handle out) {
  const Array a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  run(size_of(o), [&] { kernels().copy(a, o); });
}

void unary(nb::handle op, nb::handle x, nb::handle out) {
  const UnaryOp code = find_op(UNARY_OPS, op, "unary");
  const Array a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  require_dtype("unary", "out", o, code >= UnaryOp::isnan ? DType::Bool : a.dtype);
  run(size_of(o), [&] { kernels().unary(code, a, o); });
}

// The result of a comparison is bool, or 0 or 1 in the operands' dtype. The result of other
// operations has the operands' dtype.
void require_result(BinaryOp op, const View& operand, const View& out) {
  if (op >= BinaryOp::eq && out.dtype == DType::Bool) return;
  require_dtype("binary", "out", out, operand.dtype);
}

void binary(nb::handle op, nb::handle a, nb::handle b, nb::handle out) {
  const BinaryOp code = find_op(BINARY_OPS, op, "binary");
  const Array x = view_of(a), y = view_of(b), o = view_of(out);
  require_same_shape(x, o);
  require_same_shape(y, o);
  if (x.dtype != y.dtype) throw nb::type_error("the operands of a primitive must have one dtype");
  require_result(code, x, o);
  run(size_of(o), [&] { kernels().binary(code, x, y, o); });
}

void binary_scalar(nb::handle op, nb::handle x, nb::handle scalar, nb::handle out, bool reverse) {
  const BinaryOp code = find_op(BINARY_OPS, op, "binary");
  const Scalar value = scalar_of(scalar);
  const Array a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  require_result(code, a, o);
  run(size_of(o), [&] { kernels().binary_scalar(code, a, value, o, reverse); });
}

void where(nb::handle cond, nb::handle a, nb::handle b, nb::handle out) {
  const Array c = view_of(cond), x = view_of(a), y = view_of(b), o = view_of(out);
  for (const View* v :
       {&static_cast<const View&>(c), &static_cast<const View&>(x), &static_cast<const View&>(y)}) {
    require_same_shape(*v, o);
  }
  if (c.dtype != DType::Bool) throw nb::type_error("[where] cond must be bool");
  require_dtype("where", "a", x, o.dtype);
  require_dtype("where", "b", y, o.dtype);
  run(size_of(o), [&] { kernels().where(c, x, y, o); });
}

// `out` must have x's shape, except that the axes of the mask have length 1.
void require_reduced(const char* op, const View& x, unsigned axes, const View& out, DType dtype) {
  int64_t shape[MAX_DIMS];
  for (int axis = 0; axis < x.ndim; ++axis) shape[axis] = axes >> axis & 1 ? 1 : x.shape[axis];
  if (out.dtype == dtype && has_shape(out, shape, x.ndim)) return;
  refuse_argument(op, "out", out, dtype, shape, x.ndim, Layout::Strided);
}

void reduce(nb::handle op, nb::handle x, nb::handle axes, nb::handle out) {
  const ReduceOp code = find_op(REDUCE_OPS, op, "reduce");
  int64_t list[MAX_DIMS];
  const int count = read_ints(axes.ptr(), list);
  if (count < 0) throw nb::python_error();
  const Array a = view_of(x), o = view_of(out);
  unsigned mask = 0;
  for (int i = 0; i < count; ++i) mask |= 1u << axis_of(a, list[i]);
  const bool widens = (code == ReduceOp::sum || code == ReduceOp::prod) && !is_float(a.dtype);
  require_reduced("reduce", a, mask, o, widens ? DType::Int64 : a.dtype);
  run(size_of(a), [&] { kernels().reduce(code, a, mask, o); });
}

const std::unordered_map<std::string_view, bool> ARGREDUCE_OPS{{"argmax", true}, {"argmin", false}};

void argreduce(nb::handle op, nb::handle x, int axis, nb::handle out) {
  const bool largest = find_op(ARGREDUCE_OPS, op, "argreduce");
  const Array a = view_of(x), o = view_of(out);
  require_reduced("argreduce", a, 1u << axis_of(a, axis), o, DType::Int64);
  if (a.shape[axis] == 0) refuse("argreduce", "x has no elements along the axis");
  run(size_of(a), [&] { kernels().argreduce(largest, a, axis, o); });
}

void cumsum(nb::handle x, int axis, nb::handle out) {
  const Array a = view_of(x), o = view_of(out);
  expect_like("cumsum", "out", o, a);
  axis_of(a, axis);
  run(size_of(a), [&] { kernels().cumsum(a, axis, o); });
}

void argsort(nb::handle x, int axis, bool descending, nb::handle out) {
  const Array a = view_of(x), o = view_of(out);
  require_same_shape(a, o);
  require_dtype("argsort", "out", o, DType::Int64);
  axis_of(a, axis);
  run(times(size_of(a), 16), [&] { kernels().argsort(a, axis, descending, o); });
}

// Whether a product of dtype `product` takes an operand of dtype `operand`.
bool multiplies(DType operand, DType product) {
  const auto is_bfloat16_or_float32 = [](DType x) {
    return x == DType::BFloat16 || x == DType::Float32;
  };
  return operand == product || (is_bfloat16_or_float32(operand) && is_bfloat16_or_float32(product));
}

void matmul(nb::handle a, nb::handle b, nb::handle out, nb::handle bias) {
  const Array x = view_of(a), y = view_of(b), o = view_of(out);
  const bool has_bias = !bias.is_none();
  const Array row = has_bias ? view_of(bias) : Array();
  const int d = o.ndim;
  if (d < 2 || x.ndim != d || y.ndim != d) {
    throw nb::value_error("[matmul] the arrays of the primitive must have equal numbers of axes");
  }
  const size_t batch = (d - 2) * sizeof(int64_t);
  if (std::memcmp(x.shape, o.shape, batch) != 0 || std::memcmp(y.shape, o.shape, batch) != 0 ||
      x.shape[d - 2] != o.shape[d - 2] || y.shape[d - 1] != o.shape[d - 1] ||
      x.shape[d - 1] != y.shape[d - 2] || !multiplies(x.dtype, o.dtype) ||
      !multiplies(y.dtype, o.dtype) || !has_layout(o, Layout::Contiguous)) {
    refuse("matmul",
           "needs a (..., m, k), b (..., k, n) and out (..., m, n) of one dtype (or each of "
           "bfloat16 or float32), out in row-major order");
  }
  if (has_bias &&
      (row.ndim != 1 || row.shape[0] != o.shape[d - 1] || !multiplies(row.dtype, o.dtype))) {
    throw nb::value_error("[matmul] bias must be (n,) and of the product's dtype");
  }
  run(times(size_of(o), x.shape[d - 1]) / 8,
      [&] { kernels().matmul(x, y, o, has_bias ? &row : nullptr); });
}

// An index (m,) selects rows of `rows` (n, d). Gather copies them to the rows of `picked` (m, d);
// scatter-add adds the rows of `picked` to them.
void require_rows(const char* op, const View& rows, const View& index, const View& picked) {
  if (rows.ndim != 2 || index.ndim != 1 || index.dtype != DType::Int64)
    refuse(op, "needs rows (n, d) and an int64 index (m,)");
  expect(op, "the rows of the index", picked, rows.dtype, {index.shape[0], rows.shape[1]},
         Layout::Strided);
}

void gather_rows(nb::handle x, nb::handle index, nb::handle out) {
  const Array a = view_of(x), i = view_of(index), o = view_of(out);
  require_rows("gather_rows", a, i, o);
  run(size_of(o), [&] { kernels().gather_rows(a, i, o); });
}

void scatter_add_rows(nb::handle out, nb::handle index, nb::handle src) {
  const Array o = view_of(out), i = view_of(index), s = view_of(src);
  require_rows("scatter_add_rows", o, i, s);
  run(size_of(s), [&] { kernels().scatter_add_rows(o, i, s); });
}

// ---- fused kernels ----------------------------------------------------------------------------

// How Python passes a kernel's parameter: a View as an array, a pointer to a View as an array or
// None, everything else unchanged.
template <typename Parameter>
struct Argument {
  using Given = Parameter;
  Parameter value;
  explicit Argument(Given given) : value(given) {}
  Parameter get() const { return value; }
};

template <>
struct Argument<const View&> {
  using Given = nb::handle;
  Array array;
  explicit Argument(Given given) : array(view_of(given)) {}
  const View& get() const { return array; }
};

template <>
struct Argument<const View*> {
  using Given = std::optional<nb::handle>;
  std::optional<Array> array;
  explicit Argument(Given given) {
    if (given) array.emplace(view_of(*given));
  }
  const View* get() const { return array ? &*array : nullptr; }
};

// Defines the Python function `name`, which checks the arguments by the contract and runs the
// kernel.
template <typename... Parameters>
void bind(nb::module_& m, const char* name, void (*KernelTable::*kernel)(Parameters...),
          int64_t (*contract)(Parameters...)) {
  m.def(name, [kernel, contract](typename Argument<Parameters>::Given... given) {
    const std::tuple<Argument<Parameters>...> arguments{given...};
    std::apply(
        [&](const auto&... x) {
          run(contract(x.get()...), [&] { (kernels().*kernel)(x.get()...); });
        },
        arguments);
  });
}

// The optimizer steps that are made of lists with one array for each parameter, and the references
// to the arrays' memory. An empty list of moments means that there are none.
struct OptimizerSteps {
  std::vector<OptimizerStep> steps;
  std::vector<nb::object> memory;
};

OptimizerSteps optimizer_steps(const char* op, nb::list params, nb::list grads, nb::list first,
                               nb::list second, nb::list outs) {
  const size_t count = params.size();
  for (const nb::list& list : {grads, outs}) {
    if (list.size() != count) refuse(op, "the lists must have one length");
  }
  for (const nb::list& list : {first, second}) {
    if (list.size() != count && list.size() != 0)
      refuse(op, "a list of moments must be empty or as long as the parameters'");
  }
  OptimizerSteps result;
  result.steps.reserve(count);
  result.memory.reserve(5 * count);
  for (size_t i = 0; i < count; ++i) {
    OptimizerStep s{};
    const auto take = [&](const nb::list& list, const char* name, View& to) {
      if (i >= list.size()) {
        if (list.size() == 0) return;
        refuse(op, "a list changed during the call");
      }
      Array array = view_of(list[i]);
      to = array;
      result.memory.push_back(std::move(array.memory));
      if (&to != &s.out) expect_like(op, name, to, s.out, Layout::Contiguous);
    };
    take(outs, "out", s.out);
    if (!is_float(s.out.dtype) || !has_layout(s.out, Layout::Contiguous))
      refuse(op, "parameters must be float32 or float64 in row-major order");
    take(params, "the parameter", s.parameter);
    take(grads, "the gradient", s.gradient);
    take(first, "the first moment", s.first);
    take(second, "the second moment", s.second);
    result.steps.push_back(s);
  }
  return result;
}

int64_t total_size(const std::vector<OptimizerStep>& steps) {
  int64_t n = 0;
  for (const OptimizerStep& s : steps) n += size_of(s.out);
  return n;
}

void sgd(nb::list params, nb::list grads, nb::list momenta, nb::list outs, double lr,
         double momentum, double weight_decay, double dampening, bool nesterov) {
  const auto [steps, memory] = optimizer_steps("sgd", params, grads, momenta, nb::list(), outs);
  const SgdOptions options{lr, momentum, weight_decay, dampening, nesterov};
  run(total_size(steps), [&, &steps = steps] {
    for (const OptimizerStep& s : steps) kernels().sgd(s, options);
  });
}

void adam(nb::list params, nb::list grads, nb::list ms, nb::list vs, nb::list outs, double lr,
          double beta1, double beta2, double eps, double weight_decay, int64_t step,
          bool decoupled) {
  const auto [steps, memory] = optimizer_steps("adam", params, grads, ms, vs, outs);
  if (ms.size() != steps.size() || vs.size() != steps.size()) {
    throw nb::value_error("[adam] needs both moments of every parameter");
  }
  const AdamOptions options{lr, beta1, beta2, eps, weight_decay, step, decoupled};
  run(total_size(steps), [&, &steps = steps] {
    for (const OptimizerStep& s : steps) kernels().adam(s, options);
  });
}

void matmul_tiled(nb::handle a, nb::handle b, nb::handle out, int64_t m, int64_t n, int64_t p) {
  const auto tiled = [](int64_t size) { return size >= 0 && size % TILE_SIZE == 0; };
  // The matrix in the first rows·cols elements of a buffer.
  const auto matrix = [&](nb::handle handle, int64_t rows, int64_t cols) {
    const Buffer* buffer = buffer_of(handle.ptr());
    if (buffer == nullptr || buffer->dtype != DType::Float32)
      throw nb::type_error("[matmul_tiled] needs buffers of float32");
    if (!tiled(rows) || !tiled(cols) || buffer->size < times(rows, cols))
      refuse("matmul_tiled", "m, n and p must be multiples of 8 that fit the buffers");
    return static_cast<float*>(buffer->data);
  };
  const float *x = matrix(a, m, n), *y = matrix(b, n, p);
  float* result = matrix(out, m, p);
  kernels().matmul_tiled(x, y, result, m, n, p);
}

template <typename T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void softmax_regression_epoch(Matrix<const float> x, Vector<const uint8_t> y, Matrix<float> theta,
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
  const ReleasedGil others_run;
  const FixedThreads threads;
  kernels().softmax_regression_epoch(x.data(), y.data(), theta.data(), x.shape(0), x.shape(1),
                                     theta.shape(1), lr, batch);
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
  const Array v = view_of(x);
  size_t shape[MAX_DIMS];
  for (int i = 0; i < v.ndim; ++i) shape[i] = static_cast<size_t>(v.shape[i]);
  return nb::cast(
      nb::ndarray<nb::numpy>(v.data, v.ndim, shape, v.memory, v.strides, dlpack_dtype(v.dtype)),
      nb::rv_policy::reference);
}

// Advances NumPy's MT19937. The caller holds the lock of the generator.
void advance_mt19937(nb::handle generator, int64_t words) {
  if (std::strcmp(Py_TYPE(generator.ptr())->tp_name, "numpy.random._mt19937.MT19937") != 0)
    throw nb::type_error("[advance_mt19937] the generator must be NumPy's MT19937");
  if (words < 0) refuse("advance_mt19937", "words must not be negative");
  const nb::object capsule = generator.attr("capsule");
  // The first field of NumPy's bitgen_t points at the state.
  auto* state = static_cast<void**>(PyCapsule_GetPointer(capsule.ptr(), "BitGenerator"));
  if (state == nullptr) throw nb::python_error();
  static_cast<MersenneTwister*>(*state)->advance(words);
}

nb::dict memory_stats() {
  const MemoryStats stats = Pool::instance().stats();
  nb::dict result;
  result["in_use"] = stats.live_bytes;
  result["held"] = stats.live_bytes + stats.pooled_bytes;
  result["peak"] = stats.peak_bytes;
  result["allocations"] = stats.system_allocations;
  return result;
}

// The value of an environment variable, or None if it is not set. It is read from the C
// environment, which os.environ updates. Writers hold the GIL, and so does this function.
nb::object environment_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return nb::none();
  nb::object decoded = nb::steal(PyUnicode_DecodeFSDefault(text));
  if (!decoded.is_valid()) throw nb::python_error();
  return decoded;
}

}  // namespace

NB_MODULE(_core, m) {
  nb::set_leak_warnings(false);  // arrays in global variables live until the process ends

  register_buffer(m);
  register_eager_call(m);

  nb::class_<Program>(m, "Program")
      .def(nb::init<const std::string&, nb::sequence, nb::sequence, nb::sequence, nb::sequence,
                    int64_t>(),
           "path"_a, "arguments"_a, "states"_a, "constants"_a, "results"_a, "arena_bytes"_a)
      .def("fits", &Program::fits, "states"_a)
      .def("run", &Program::run, "arguments"_a, "states"_a, "clock"_a)
      .def_prop_ro("arena_bytes", &Program::arena_bytes);

  nb::class_<Setting>(m, "Setting")
      .def(nb::init<nb::object, nb::str, nb::object, nb::str>(), "target"_a, "name"_a,
           "value"_a.none(), "outer"_a)
      .def("__enter__", &Setting::enter)
      .def("__exit__", &Setting::exit);

  m.attr("TILE_SIZE") = TILE_SIZE;
  m.def("register", register_types);
  m.def("register_values", register_values);
  m.def("register_autograd", register_autograd);
  m.def("direct_kernel", direct_kernel);
  m.def("eager_view", eager_view, "op_class"_a, "x"_a.none(), "argument"_a.none());
  m.def("first_changed", first_changed);
  m.def("environment_variable", environment_variable);
  m.def("allocate", allocate);
  m.def("wrap", wrap);
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
  m.def("gather_rows", gather_rows);
  m.def("scatter_add_rows", scatter_add_rows);

#define NEEDLE_BIND(name, ...) bind(m, #name, &KernelTable::name, contracts::name);
  NEEDLE_FUSED_KERNELS(NEEDLE_BIND)
#undef NEEDLE_BIND

  m.def("sgd", sgd);
  m.def("adam", adam);
  m.def("matmul_tiled", matmul_tiled);
  m.def("softmax_regression_epoch", softmax_regression_epoch, "x"_a.noconvert(), "y"_a.noconvert(),
        "theta"_a.noconvert(), "lr"_a, "batch"_a);

  m.def("memory_stats", memory_stats);
  m.def("empty_cache", [] { Pool::instance().empty_cache(); });
  m.def("set_num_threads", set_num_threads);
  m.def("get_num_threads", num_threads);
  m.def("advance_mt19937", advance_mt19937);
  m.def("simd_level", [] { return kernels().name; });
  m.def("simd_levels", simd_levels);
  m.def("peak_flops", [](double seconds) {
    if (!(seconds > 0 && seconds <= 60)) refuse("peak_flops", "seconds must be in (0, 60]");
    return kernels().peak_flops(seconds);
  });
}

}  // namespace needle
