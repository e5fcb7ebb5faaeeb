// A CUDA driver library without a device: the part of libcuda that needle calls, on host memory.
//
// One device, or NEEDLE_EMULATOR_DEVICES of them. Work on a stream is done at once, by the calling
// thread, or, with NEEDLE_EMULATOR_DELAY, as late as a device may do it: when somebody waits for
// it. What somebody should have waited for, and has not, is then missing. A device's memory is an
// arena of its own with guard bytes around each allocation, which are checked when memory is freed
// and when the host waits for the device. Memory that was never written, or was freed, holds NaN.
//
// Besides the driver's functions it exports some for tests, at the end of this file.
#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "block.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using emulator::Index;

enum CUresult : int {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_DEINITIALIZED = 4,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_INVALID_PTX = 218,
  CUDA_ERROR_FILE_NOT_FOUND = 301,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_MISALIGNED_ADDRESS = 716,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
  CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
  CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
  CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
  CUDA_ERROR_CAPTURED_EVENT = 907,
  CUDA_ERROR_UNKNOWN = 999,
};

struct ErrorText {
  CUresult code;
  const char *name, *sentence;
};
#define ERROR(name, sentence) {CUDA_##name, "CUDA_" #name, sentence}
const ErrorText kErrors[] = {
    ERROR(SUCCESS, "no error"),
    ERROR(ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(ERROR_DEINITIALIZED, "driver shutting down"),
    ERROR(ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    ERROR(ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    ERROR(ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    ERROR(ERROR_FILE_NOT_FOUND, "file not found"),
    ERROR(ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(ERROR_NOT_FOUND, "named symbol not found"),
    ERROR(ERROR_NOT_READY, "device not ready"),
    ERROR(ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    ERROR(ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    ERROR(ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    ERROR(ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    ERROR(ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    ERROR(ERROR_NOT_SUPPORTED, "operation not supported"),
    ERROR(ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    ERROR(ERROR_STREAM_CAPTURE_INVALIDATED,
          "operation failed due to a previous error during capture"),
    ERROR(ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    ERROR(ERROR_STREAM_CAPTURE_ISOLATION,
          "dependency created on uncaptured work in another stream"),
    ERROR(ERROR_STREAM_CAPTURE_IMPLICIT,
          "operation would make the legacy stream depend on a capturing blocking stream"),
    ERROR(ERROR_CAPTURED_EVENT,
          "operation not permitted on an event last recorded in a "
          "capturing stream"),
    ERROR(ERROR_UNKNOWN, "unknown error"),
};
#undef ERROR

const ErrorText* find_error(int code) {
  for (const ErrorText& error : kErrors) {
    if (error.code == code) return &error;
  }
  return nullptr;
}

std::string error_name(int code) {
  const ErrorText* error = find_error(code);
  return error != nullptr ? error->name : std::to_string(code);
}

using CUdeviceptr = unsigned long long;
using CUdevice = int;
using Work = std::function<CUresult()>;

long long setting(const char* name, long long otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::atoll(text) : otherwise;
}

/// Major and minor as one number: 90 is 9.0.
int capability() {
  const char* text = std::getenv("NEEDLE_EMULATOR_CAPABILITY");
  int major = 9, minor = 0;
  if (text != nullptr) std::sscanf(text, "%d.%d", &major, &minor);
  return major * 10 + minor;
}

int device_count() { return int(std::clamp(setting("NEEDLE_EMULATOR_DEVICES", 1), 0LL, 16LL)); }

/// Shared memory that a block may opt in to, by the table of compute capabilities in the CUDA C++
/// Programming Guide.
int shared_opt_in() {
  switch (capability()) {
    case 70:
    case 72:
      return 96 << 10;
    case 75:
      return 64 << 10;
    case 80:
    case 87:
      return 163 << 10;
    case 86:
    case 89:
    case 120:
      return 99 << 10;
    default:
      return 227 << 10;
  }
}

constexpr int kThreadsPerBlock = 1024, kSharedPerBlock = 48 << 10;
constexpr long long kMaxGridX = 0x7fffffff, kMaxGridYZ = 65535;

/// The memory of a device.
class Arena {
 public:
  explicit Arena(size_t limit) : limit_(limit), reserved_(4 * limit + (64 << 20)) {
    // Address space only: pages come when they are touched. More than the limit, because
    // allocations leave gaps.
    void* memory = mmap(nullptr, reserved_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    begin_ = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
  }
  ~Arena() {
    if (begin_ != nullptr) munmap(begin_, reserved_);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// The first gap that is large enough; null if the device has less memory left.
  char* allocate(size_t bytes) {
    if (begin_ == nullptr || bytes > limit_ - in_use_) return nullptr;
    const size_t span = kGuard + round_up(bytes) + kGuard;
    char* gap = begin_;
    for (const auto& [address, size] : allocations_) {
      if (size_t(address - kGuard - gap) >= span) break;
      gap = address + round_up(size) + kGuard;
    }
    if (size_t(begin_ + reserved_ - gap) < span) return nullptr;
    char* address = gap + kGuard;
    allocations_[address] = bytes;
    in_use_ += bytes;
    std::memset(address, kPoison, bytes);
    std::memcpy(address - kGuard, guard(), kGuard);
    std::memcpy(address + bytes, guard() + bytes % kPattern, guard_after(bytes));
    return address;
  }

  /// False if nothing was allocated there.
  bool free(char* address) {
    auto found = allocations_.find(address);
    if (found == allocations_.end()) return false;
    std::memset(address, kPoison, found->second);
    in_use_ -= found->second;
    allocations_.erase(found);
    return true;
  }

  /// True if all bytes lie in one allocation.
  bool contains(const char* address, size_t bytes) const {
    auto next = allocations_.upper_bound(const_cast<char*>(address));
    if (next == allocations_.begin()) return false;
    const auto& [begin, size] = *std::prev(next);
    return size_t(address - begin) <= size && bytes <= size - size_t(address - begin);
  }

  /// What was written outside the allocation at `address`, or "".
  std::string damage(char* address) const {
    auto found = allocations_.find(address);
    return found == allocations_.end() ? "" : damage(found->first, found->second);
  }

  std::string damage() const {
    for (const auto& [address, bytes] : allocations_) {
      std::string message = damage(address, bytes);
      if (!message.empty()) return message;
    }
    return "";
  }

  size_t limit() const { return limit_; }
  size_t in_use() const { return in_use_; }

 private:
  static constexpr size_t kGuard = 512, kPattern = 4;
  static constexpr int kPoison = 0xFF;

  // The start of each allocation is a multiple of this, as on a device.
  static size_t round_up(size_t bytes) { return (bytes + 511) / 512 * 512; }
  static size_t guard_after(size_t bytes) { return round_up(bytes) - bytes + kGuard; }

  /// NaN as float and double too, so that what is read beyond an allocation shows in a result.
  static const char* guard() {
    static const std::string text = [] {
      std::string bytes;
      while (bytes.size() < 2 * kGuard + kPattern) bytes += "\xFF\xA5\xF1\xFF";
      return bytes;
    }();
    return text.data();
  }

  static std::string damage(const char* address, size_t bytes) {
    const size_t after = guard_after(bytes);
    const char* expected = guard() + bytes % kPattern;
    std::string where;
    if (std::memcmp(address + bytes, expected, after) != 0) {
      const char* at = std::mismatch(address + bytes, address + bytes + after, expected).first;
      where = std::to_string(at - address - bytes) + " bytes beyond the end";
    } else if (std::memcmp(address - kGuard, guard(), kGuard) != 0) {
      const char* at = std::mismatch(address - kGuard, address, guard()).first;
      where = std::to_string(address - at) + " bytes before the start";
    } else {
      return "";
    }
    char text[160];
    std::snprintf(text, sizeof text, "written %s of the allocation of %zu bytes at %p",
                  where.c_str(), bytes, static_cast<const void*>(address));
    return text;
  }

  const size_t limit_, reserved_;
  char* begin_;
  size_t in_use_ = 0;
  std::map<char*, size_t> allocations_;
};

struct Graph {
  std::vector<Work> nodes;
};

struct Stream;
struct Capture {
  Stream* origin;
  Graph graph;
  bool invalid = false;
};

struct Stream {
  unsigned flags;
  std::shared_ptr<Capture> capture = nullptr;  // null: not capturing
  std::deque<Work> queue = {};                 // what is still to be done
  size_t done = 0;

  size_t issued() const { return done + queue.size(); }
};

/// A point in a stream: after its first `position` pieces of work.
struct Moment {
  Stream* stream;
  size_t position;
  bool reached = false;
  std::chrono::steady_clock::time_point time = {};  // when it was
};

struct Event {
  unsigned flags;
  std::shared_ptr<Moment> moment = nullptr;    // null: not recorded
  std::shared_ptr<Capture> capture = nullptr;  // that it was last recorded in
};

struct Function {
  std::shared_ptr<void> library;  // keeps the code of a captured launch alive
  std::string name;
  const emulator::Kernel* kernel;
  int dynamic_shared_limit = kSharedPerBlock;
};

struct Module {
  std::shared_ptr<void> library;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

/// The live objects of one kind, by handle.
template <class T>
class Handles {
 public:
  T* add(T object) {
    auto owner = std::make_unique<T>(std::move(object));
    T* handle = owner.get();
    owners_[handle] = std::move(owner);
    return handle;
  }
  bool has(const T* handle) const { return owners_.count(handle) != 0; }
  bool remove(const T* handle) { return owners_.erase(handle) != 0; }
  auto begin() const { return owners_.begin(); }
  auto end() const { return owners_.end(); }

 private:
  std::map<const T*, std::unique_ptr<T>> owners_;
};

/// A device's primary context, with all that was made in it.
struct Context {
  explicit Context(size_t memory) : arena(memory) {}

  Arena arena;
  CUresult lost = CUDA_SUCCESS;  // the error after which nothing works any more
  std::string last_kernel = "none";
  std::set<void*> host_memory, freed_host_memory;
  Stream default_stream = {0};
  Handles<Stream> streams;
  Handles<Event> events;
  Handles<Module> modules;
  Handles<Function*> functions;
  Handles<Graph> graphs;
  Handles<std::shared_ptr<Graph>> executables;

  ~Context() {
    for (const auto* all : {&host_memory, &freed_host_memory}) {
      for (void* memory : *all) std::free(memory);
    }
  }
};

struct Device {
  int references = 0;
  std::unique_ptr<Context> context;  // alive while it is retained
};

struct Failure {
  int after, code;
};

struct State {
  std::mutex mutex;
  bool initialised = false;
  Device devices[16];
  std::map<std::string, Failure> failures;
  std::string calls, note;
  std::string calls_read;  // what emulator_calls returned last
};

// Never destroyed: a program may call the driver while it ends.
State& state = *new State;

// The current context of a thread, as CUcontext: its device.
thread_local Device* current = nullptr;

enum class Needs { kNothing, kDriver, kContext };

CUresult ready(Needs needs) {
  if (needs == Needs::kNothing) return CUDA_SUCCESS;
  if (!state.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (needs == Needs::kDriver) return CUDA_SUCCESS;
  if (current == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (current->context == nullptr) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return current->context->lost;
}

/// Every function of the driver: an injected failure or `body`, and a line in the log with what
/// `body` left in state.note.
template <class Body>
CUresult call(const char* function, Needs needs, Body body) {
  std::lock_guard<std::mutex> lock(state.mutex);
  state.note.clear();
  CUresult result = ready(needs);
  auto failure = state.failures.find(function);
  if (failure != state.failures.end() && failure->second.after-- == 0) {
    result = CUresult(failure->second.code);
    state.failures.erase(failure);
  } else if (result == CUDA_SUCCESS) {
    result = body();
  }
  state.calls += function + state.note + (result == 0 ? "" : " -> " + error_name(result)) + "\n";
  return result;
}

void note(const std::string& text) { state.note += " " + text; }
void note(size_t number) { note(std::to_string(number)); }

std::string text(const Index& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
         std::to_string(index.z) + ")";
}

/// The context is lost, as on a device: only destroying it helps.
CUresult lose(Context& context, int code, const std::string& message) {
  std::fprintf(stderr, "[needle emulator] %s: %s\n", error_name(code).c_str(), message.c_str());
  return context.lost = CUresult(code);
}

CUresult check_guards(Context& context, const std::string& damage) {
  if (damage.empty()) return CUDA_SUCCESS;
  return lose(context, CUDA_ERROR_ILLEGAL_ADDRESS,
              damage + "; the last kernel was " + context.last_kernel);
}

/// Null if there is no such stream. 0, 1 and 2 are the default streams.
Stream* find_stream(Context& context, Stream* handle) {
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return &context.default_stream;
  return context.streams.has(handle) ? handle : nullptr;
}

bool delayed() { return setting("NEEDLE_EMULATOR_DELAY", 0) != 0; }

/// Does a stream's work up to a position.
CUresult run_until(Stream& stream, size_t position) {
  CUresult result = CUDA_SUCCESS;
  while (result == CUDA_SUCCESS && stream.done < position && !stream.queue.empty()) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.done;
    result = work();
  }
  return result;
}

CUresult run_until(const Moment& moment) {
  return moment.reached ? CUDA_SUCCESS : run_until(*moment.stream, moment.position);
}

CUresult run_all(Stream& stream) { return run_until(stream, stream.issued()); }

CUresult run_all(Context& context) {
  CUresult result = run_all(context.default_stream);
  for (const auto& [stream, owner] : context.streams) {
    if (result == CUDA_SUCCESS) result = run_all(*owner);
  }
  return result;
}

/// Puts work into a stream that does not capture; it is done at once, or when it is waited for.
CUresult push(Stream& stream, Work work) {
  stream.queue.push_back(std::move(work));
  return delayed() ? CUDA_SUCCESS : run_all(stream);
}

/// Does the work, or records it if the stream captures.
CUresult enqueue(Stream* handle, Work work) {
  Context& context = *current->context;
  Stream* stream = find_stream(context, handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture != nullptr) {
    if (stream->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->graph.nodes.push_back(std::move(work));
    note("captured");
    return CUDA_SUCCESS;
  }
  if (stream == &context.default_stream) {
    constexpr unsigned kNonBlocking = 1;
    for (const auto& [other, owner] : context.streams) {
      if (other->capture == nullptr || other->flags & kNonBlocking) continue;
      other->capture->invalid = true;
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  return push(*stream, std::move(work));
}

/// What may not be called while a stream captures, because it would wait for the stream.
CUresult forbid_capture(Context& context, const Stream* only = nullptr) {
  for (const auto& [stream, owner] : context.streams) {
    if (stream->capture == nullptr || (only != nullptr && stream != only)) continue;
    stream->capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return CUDA_SUCCESS;
}

char* host(CUdeviceptr pointer) { return reinterpret_cast<char*>(uintptr_t(pointer)); }

CUresult run_graph(const Graph& graph) {
  for (const Work& node : graph.nodes) {
    CUresult result = node();
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

}  // namespace

// --- Errors ---

EXPORT CUresult cuGetErrorName(CUresult code, const char** name) {
  const ErrorText* error = find_error(code);
  *name = error != nullptr ? error->name : nullptr;
  return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetErrorString(CUresult code, const char** sentence) {
  const ErrorText* error = find_error(code);
  *sentence = error != nullptr ? error->sentence : nullptr;
  return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// --- Devices ---

EXPORT CUresult cuInit(unsigned flags) {
  return call("cuInit", Needs::kNothing, [&] {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (device_count() == 0) return CUDA_ERROR_NO_DEVICE;
    state.initialised = true;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuDriverGetVersion(int* version) {
  return call("cuDriverGetVersion", Needs::kNothing, [&] {
    *version = 12040;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuDeviceGetCount(int* count) {
  return call("cuDeviceGetCount", Needs::kDriver, [&] {
    *count = device_count();
    return CUDA_SUCCESS;
  });
}

static CUresult call_device(const char* function, CUdevice device, Work body) {
  return call(function, Needs::kDriver, [&] {
    note(std::to_string(device));
    return device < 0 || device >= device_count() ? CUDA_ERROR_INVALID_DEVICE : body();
  });
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return call_device("cuDeviceGet", ordinal, [&] {
    *device = ordinal;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  return call_device("cuDeviceGetName", device, [&] {
    std::snprintf(name, length, "needle emulator");
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  return call_device("cuDeviceGetAttribute", device, [&] {
    // By the numbers of CUdevice_attribute.
    const std::map<int, int> values = {
        {1, kThreadsPerBlock},         // MAX_THREADS_PER_BLOCK
        {2, 1024},                     // MAX_BLOCK_DIM_X
        {3, 1024},                     // MAX_BLOCK_DIM_Y
        {4, 64},                       // MAX_BLOCK_DIM_Z
        {5, int(kMaxGridX)},           // MAX_GRID_DIM_X
        {6, int(kMaxGridYZ)},          // MAX_GRID_DIM_Y
        {7, int(kMaxGridYZ)},          // MAX_GRID_DIM_Z
        {8, kSharedPerBlock},          // MAX_SHARED_MEMORY_PER_BLOCK
        {9, 64 << 10},                 // TOTAL_CONSTANT_MEMORY
        {10, 32},                      // WARP_SIZE
        {12, 64 << 10},                // MAX_REGISTERS_PER_BLOCK
        {13, 1000000},                 // CLOCK_RATE, kHz
        {15, 1},                       // GPU_OVERLAP
        {16, 2},                       // MULTIPROCESSOR_COUNT
        {19, 1},                       // CAN_MAP_HOST_MEMORY
        {31, 1},                       // CONCURRENT_KERNELS
        {33, device + 1},              // PCI_BUS_ID
        {36, 1000000},                 // MEMORY_CLOCK_RATE, kHz
        {37, 256},                     // GLOBAL_MEMORY_BUS_WIDTH, bits
        {38, 4 << 20},                 // L2_CACHE_SIZE
        {39, 2048},                    // MAX_THREADS_PER_MULTIPROCESSOR
        {40, 1},                       // ASYNC_ENGINE_COUNT
        {41, 1},                       // UNIFIED_ADDRESSING
        {75, capability() / 10},       // COMPUTE_CAPABILITY_MAJOR
        {76, capability() % 10},       // COMPUTE_CAPABILITY_MINOR
        {81, shared_opt_in() + 1024},  // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        {82, 64 << 10},                // MAX_REGISTERS_PER_MULTIPROCESSOR
        {97, shared_opt_in()},         // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        {106, 32},                     // MAX_BLOCKS_PER_MULTIPROCESSOR
        {111, 1024},                   // RESERVED_SHARED_MEMORY_PER_BLOCK
        {115, 1},                      // MEMORY_POOLS_SUPPORTED
    };
    constexpr int kLastAttribute = 150;
    if (attribute < 1 || attribute > kLastAttribute) return CUDA_ERROR_INVALID_VALUE;
    auto found = values.find(attribute);
    *value = found != values.end() ? found->second : 0;
    return CUDA_SUCCESS;
  });
}

static size_t memory_limit() { return setting("NEEDLE_EMULATOR_MEMORY", 1LL << 30); }

EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return call_device("cuDeviceTotalMem_v2", device, [&] {
    const auto& context = state.devices[device].context;
    *bytes = context != nullptr ? context->arena.limit() : memory_limit();
    return CUDA_SUCCESS;
  });
}

// --- Contexts ---

EXPORT CUresult cuDevicePrimaryCtxRetain(Device** context, CUdevice device) {
  return call_device("cuDevicePrimaryCtxRetain", device, [&] {
    Device& owner = state.devices[device];
    if (owner.references++ == 0) owner.context = std::make_unique<Context>(memory_limit());
    *context = &owner;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return call_device("cuDevicePrimaryCtxRelease_v2", device, [&] {
    Device& owner = state.devices[device];
    if (owner.references == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--owner.references == 0) owner.context = nullptr;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuCtxSetCurrent(Device* context) {
  return call("cuCtxSetCurrent", Needs::kDriver, [&] {
    if (context != nullptr && context->context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    current = context;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuCtxGetCurrent(Device** context) {
  return call("cuCtxGetCurrent", Needs::kDriver, [&] {
    *context = current;
    return CUDA_SUCCESS;
  });
}

/// A call in the current context.
template <class Body>
static CUresult call_context(const char* function, Body body) {
  return call(function, Needs::kContext, [&] { return body(*current->context); });
}

EXPORT CUresult cuCtxSynchronize() {
  return call_context("cuCtxSynchronize", [&](Context& context) {
    CUresult result = forbid_capture(context);
    if (result == CUDA_SUCCESS) result = run_all(context);
    return result != CUDA_SUCCESS ? result : check_guards(context, context.arena.damage());
  });
}

// --- Memory ---

EXPORT CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return call_context("cuMemGetInfo_v2", [&](Context& context) {
    *total = context.arena.limit();
    *free = *total - context.arena.in_use();
    return CUDA_SUCCESS;
  });
}

/// Allocating and freeing cannot be captured here; on a device it can.
static CUresult forbid_capture_of_memory(Context& context, Stream* handle) {
  Stream* stream = find_stream(context, handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return stream->capture != nullptr ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t bytes, Stream* stream) {
  return call_context("cuMemAllocAsync", [&](Context& context) {
    note(bytes);
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = forbid_capture_of_memory(context, stream);
    if (result != CUDA_SUCCESS) return result;
    char* address = context.arena.allocate(bytes);
    if (address == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    *pointer = reinterpret_cast<uintptr_t>(address);
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr pointer, Stream* stream) {
  return call_context("cuMemFreeAsync", [&](Context& context) {
    CUresult result = forbid_capture_of_memory(context, stream);
    if (result != CUDA_SUCCESS) return result;
    return enqueue(stream, [&context, pointer] {
      CUresult result = check_guards(context, context.arena.damage(host(pointer)));
      if (result != CUDA_SUCCESS) return result;
      return context.arena.free(host(pointer)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
  });
}

EXPORT CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  return call_context("cuMemHostAlloc", [&](Context& context) {
    note(bytes);
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = forbid_capture(context);
    if (result != CUDA_SUCCESS) return result;
    if (posix_memalign(pointer, 4096, bytes) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(*pointer, 0xFF, bytes);  // NaN
    context.host_memory.insert(*pointer);
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuMemFreeHost(void* pointer) {
  return call_context("cuMemFreeHost", [&](Context& context) {
    if (context.host_memory.erase(pointer) == 0) return CUDA_ERROR_INVALID_VALUE;
    // Work that was not waited for may still look there: it finds NaN.
    std::memset(pointer, 0xFF, malloc_usable_size(pointer));
    context.freed_host_memory.insert(pointer);
    return CUDA_SUCCESS;
  });
}

static Work copy(void* to, const void* from, size_t bytes) {
  return [=] {
    std::memmove(to, from, bytes);
    return CUDA_SUCCESS;
  };
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes,
                                     Stream* stream) {
  return call_context("cuMemcpyHtoDAsync_v2", [&](Context& context) {
    note(bytes);
    if (!context.arena.contains(host(to), bytes)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, copy(host(to), from, bytes));
  });
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, Stream* stream) {
  return call_context("cuMemcpyDtoHAsync_v2", [&](Context& context) {
    note(bytes);
    if (!context.arena.contains(host(from), bytes)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, copy(to, host(from), bytes));
  });
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                     Stream* stream) {
  return call_context("cuMemcpyDtoDAsync_v2", [&](Context& context) {
    note(bytes);
    if (!context.arena.contains(host(to), bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (!context.arena.contains(host(from), bytes)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, copy(host(to), host(from), bytes));
  });
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, Stream* stream) {
  return call_context("cuMemsetD8Async", [&](Context& context) {
    note(bytes);
    if (!context.arena.contains(host(to), bytes)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, [=] {
      std::memset(host(to), value, bytes);
      return CUDA_SUCCESS;
    });
  });
}

// A pool has nothing to keep: what is freed is free.

EXPORT CUresult cuDeviceGetDefaultMemPool(void** pool, CUdevice device) {
  return call_device("cuDeviceGetDefaultMemPool", device, [&] {
    *pool = &state.devices[device];
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuMemPoolSetAttribute(void* pool, int, void* value) {
  return call("cuMemPoolSetAttribute", Needs::kDriver, [&] {
    return pool == nullptr || value == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  });
}

EXPORT CUresult cuMemPoolTrimTo(void* pool, size_t) {
  return call("cuMemPoolTrimTo", Needs::kDriver,
              [&] { return pool == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; });
}

// --- Streams and events ---

EXPORT CUresult cuStreamCreate(Stream** stream, unsigned flags) {
  return call_context("cuStreamCreate", [&](Context& context) {
    if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
    *stream = context.streams.add({flags});
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuStreamDestroy_v2(Stream* stream) {
  return call_context("cuStreamDestroy_v2", [&](Context& context) {
    if (!context.streams.has(stream)) return CUDA_ERROR_INVALID_HANDLE;
    const CUresult result = run_all(*stream);
    context.streams.remove(stream);
    return result;
  });
}

EXPORT CUresult cuStreamSynchronize(Stream* handle) {
  return call_context("cuStreamSynchronize", [&](Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    CUresult result = forbid_capture(context, stream);
    if (result == CUDA_SUCCESS) result = run_all(*stream);
    return result != CUDA_SUCCESS ? result : check_guards(context, context.arena.damage());
  });
}

EXPORT CUresult cuStreamWaitEvent(Stream* handle, Event* event, unsigned) {
  return call_context("cuStreamWaitEvent", [&](Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr || !context.events.has(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != nullptr && event->moment && event->capture != stream->capture) {
      stream->capture->invalid = true;
      return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    // A stream that waits for captured work is captured with it.
    if (event->capture != nullptr) stream->capture = event->capture;
    if (stream->capture != nullptr || !event->moment) return CUDA_SUCCESS;
    return push(*stream, [moment = event->moment] { return run_until(*moment); });
  });
}

EXPORT CUresult cuEventCreate(Event** event, unsigned flags) {
  return call_context("cuEventCreate", [&](Context& context) {
    *event = context.events.add({flags});
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuEventRecord(Event* event, Stream* handle) {
  return call_context("cuEventRecord", [&](Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr || !context.events.has(event)) return CUDA_ERROR_INVALID_HANDLE;
    event->capture = stream->capture;
    event->moment = std::make_shared<Moment>(Moment{stream, stream->issued() + 1});
    if (stream->capture != nullptr) return CUDA_SUCCESS;
    return push(*stream, [moment = event->moment] {
      moment->reached = true;
      moment->time = std::chrono::steady_clock::now();
      return CUDA_SUCCESS;
    });
  });
}

EXPORT CUresult cuEventQuery(Event* event) {
  return call_context("cuEventQuery", [&](Context& context) {
    if (!context.events.has(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture != nullptr) return CUDA_ERROR_CAPTURED_EVENT;
    return !event->moment || event->moment->reached ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

EXPORT CUresult cuEventSynchronize(Event* event) {
  return call_context("cuEventSynchronize", [&](Context& context) {
    if (!context.events.has(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture != nullptr) return CUDA_ERROR_CAPTURED_EVENT;
    CUresult result = CUDA_SUCCESS;
    if (event->moment) result = run_until(*event->moment);
    return result != CUDA_SUCCESS ? result : check_guards(context, context.arena.damage());
  });
}

EXPORT CUresult cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
  return call_context("cuEventElapsedTime", [&](Context& context) {
    constexpr unsigned kDisableTiming = 2;
    for (const Event* event : {start, end}) {
      if (!context.events.has(event) || !event->moment || event->flags & kDisableTiming) {
        return CUDA_ERROR_INVALID_HANDLE;
      }
      if (!event->moment->reached) return CUDA_ERROR_NOT_READY;
    }
    const auto elapsed = end->moment->time - start->moment->time;
    *milliseconds = std::chrono::duration<float, std::milli>(elapsed).count();
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuEventDestroy_v2(Event* event) {
  return call_context("cuEventDestroy_v2", [&](Context& context) {
    return context.events.remove(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

// --- Modules and launches ---

EXPORT CUresult cuModuleLoadData(Module** module, const void* image) {
  return call_context("cuModuleLoadData", [&](Context& context) {
    // The emulated NVRTC's binary is the path of a shared library.
    const char* path = static_cast<const char*>(image);
    if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (*path != '/') return CUDA_ERROR_INVALID_IMAGE;
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      std::fprintf(stderr, "[needle emulator] %s\n", dlerror());
      return CUDA_ERROR_INVALID_IMAGE;
    }
    *module = context.modules.add({std::shared_ptr<void>(library, dlclose), {}});
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuModuleUnload(Module* module) {
  return call_context("cuModuleUnload", [&](Context& context) {
    return context.modules.remove(module) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

EXPORT CUresult cuModuleGetFunction(Function** function, Module* module, const char* name) {
  return call_context("cuModuleGetFunction", [&](Context& context) {
    note(name);
    if (!context.modules.has(module)) return CUDA_ERROR_INVALID_HANDLE;
    auto& owner = module->functions[name];
    if (owner == nullptr) {
      void* kernel = dlsym(module->library.get(), (std::string("emulator_kernel_") + name).c_str());
      if (kernel == nullptr) return CUDA_ERROR_NOT_FOUND;
      owner = std::make_unique<Function>();
      owner->library = module->library;
      owner->name = name;
      owner->kernel = static_cast<const emulator::Kernel*>(kernel);
    }
    *function = owner.get();
    return CUDA_SUCCESS;
  });
}

static bool is_function(const Context& context, const Function* handle) {
  for (const auto& [module, owner] : context.modules) {
    for (const auto& [name, function] : module->functions) {
      if (function.get() == handle) return true;
    }
  }
  return false;
}

// By the numbers of CUfunction_attribute.
enum FunctionAttribute {
  kMaxThreadsPerBlock = 0,
  kSharedSizeBytes = 1,
  kNumRegs = 4,
  kBinaryVersion = 6,
  kMaxDynamicSharedSizeBytes = 8,
  kPreferredSharedMemoryCarveout = 9,
};

/// Of all kernels of the library together: the emulator does not tell apart whose it is.
static int static_shared(const Function& function) {
  const emulator::Library& library = *function.kernel->library;
  return int(library.shared_end - library.shared_begin);
}

EXPORT CUresult cuFuncGetAttribute(int* value, int attribute, Function* function) {
  return call_context("cuFuncGetAttribute", [&](Context& context) {
    if (!is_function(context, function)) return CUDA_ERROR_INVALID_HANDLE;
    switch (attribute) {
      case kMaxThreadsPerBlock:
        *value = kThreadsPerBlock;
        return CUDA_SUCCESS;
      case kSharedSizeBytes:
        *value = static_shared(*function);
        return CUDA_SUCCESS;
      case kNumRegs:
        *value = 32;
        return CUDA_SUCCESS;
      case kBinaryVersion:
        *value = capability();
        return CUDA_SUCCESS;
      case kMaxDynamicSharedSizeBytes:
        *value = function->dynamic_shared_limit;
        return CUDA_SUCCESS;
      default:
        *value = 0;
        return attribute >= 0 && attribute < 16 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
  });
}

EXPORT CUresult cuFuncSetAttribute(Function* function, int attribute, int value) {
  return call_context("cuFuncSetAttribute", [&](Context& context) {
    if (!is_function(context, function)) return CUDA_ERROR_INVALID_HANDLE;
    if (attribute == kPreferredSharedMemoryCarveout) return CUDA_SUCCESS;
    if (attribute != kMaxDynamicSharedSizeBytes || value < 0 || value > shared_opt_in()) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    function->dynamic_shared_limit = value;
    return CUDA_SUCCESS;
  });
}

static bool fits(const Function& function, const Index& grid, const Index& block,
                 unsigned shared_bytes) {
  const unsigned long long threads = 1ULL * block.x * block.y * block.z;
  return threads >= 1 && threads <= kThreadsPerBlock && block.x <= kThreadsPerBlock &&
         block.y <= kThreadsPerBlock && block.z <= 64 && grid.x >= 1 && grid.x <= kMaxGridX &&
         grid.y >= 1 && grid.y <= kMaxGridYZ && grid.z >= 1 && grid.z <= kMaxGridYZ &&
         shared_bytes <= unsigned(std::max(function.dynamic_shared_limit, kSharedPerBlock));
}

EXPORT CUresult cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y,
                               unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared_bytes, Stream* stream,
                               void** parameters, void** extra) {
  return call_context("cuLaunchKernel", [&](Context& context) {
    if (!is_function(context, function)) return CUDA_ERROR_INVALID_HANDLE;
    const Index grid = {grid_x, grid_y, grid_z}, block = {block_x, block_y, block_z};
    note(function->name + " " + text(grid) + " " + text(block) + " " +
         std::to_string(shared_bytes));
    if (extra != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    if (!fits(*function, grid, block, shared_bytes)) return CUDA_ERROR_INVALID_VALUE;
    const emulator::Kernel& kernel = *function->kernel;
    if (parameters == nullptr && kernel.parameters > 0) return CUDA_ERROR_INVALID_VALUE;

    // The values are copied now; a captured launch uses them later.
    std::vector<std::vector<char>> values;
    for (int i = 0; i < kernel.parameters; ++i) {
      const char* value = static_cast<const char*>(parameters[i]);
      values.emplace_back(value, value + kernel.sizes[i]);
    }
    return enqueue(stream, [&context, library = function->library, values = std::move(values),
                            launch = emulator::Launch{function->name, &kernel, grid, block,
                                                      shared_bytes}]() mutable {
      std::vector<void*> pointers;
      for (auto& value : values) pointers.push_back(value.data());
      context.last_kernel = launch.name;
      const emulator::Outcome outcome = emulator::run(launch, pointers.data());
      if (outcome.code != 0) return lose(context, outcome.code, outcome.message);
      return CUDA_SUCCESS;
    });
  });
}

// --- Graphs ---

EXPORT CUresult cuStreamBeginCapture_v2(Stream* stream, int) {
  return call_context("cuStreamBeginCapture_v2", [&](Context& context) {
    // The legacy stream cannot capture.
    if (find_stream(context, stream) == &context.default_stream) {
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (!context.streams.has(stream)) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != nullptr) return CUDA_ERROR_INVALID_VALUE;
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuStreamEndCapture(Stream* stream, Graph** graph) {
  return call_context("cuStreamEndCapture", [&](Context& context) {
    *graph = nullptr;
    if (!context.streams.has(stream)) return CUDA_ERROR_INVALID_HANDLE;
    const std::shared_ptr<Capture> capture = stream->capture;
    if (capture == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (capture->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    for (const auto& [other, owner] : context.streams) {
      if (other->capture == capture) owner->capture = nullptr;
    }
    if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    note(capture->graph.nodes.size());
    *graph = context.graphs.add(capture->graph);
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuGraphInstantiateWithFlags(std::shared_ptr<Graph>** executable, Graph* graph,
                                            unsigned long long) {
  return call_context("cuGraphInstantiateWithFlags", [&](Context& context) {
    if (!context.graphs.has(graph)) return CUDA_ERROR_INVALID_VALUE;
    *executable = context.executables.add(std::make_shared<Graph>(*graph));
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult cuGraphLaunch(std::shared_ptr<Graph>* executable, Stream* stream) {
  return call_context("cuGraphLaunch", [&](Context& context) {
    if (!context.executables.has(executable)) return CUDA_ERROR_INVALID_VALUE;
    note((*executable)->nodes.size());
    return enqueue(stream, [graph = *executable] { return run_graph(*graph); });
  });
}

EXPORT CUresult cuGraphExecDestroy(std::shared_ptr<Graph>* executable) {
  return call_context("cuGraphExecDestroy", [&](Context& context) {
    return context.executables.remove(executable) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

EXPORT CUresult cuGraphDestroy(Graph* graph) {
  return call_context("cuGraphDestroy", [&](Context& context) {
    return context.graphs.remove(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

// --- For tests ---

/// The calls since the log was cleared, one a line: the function, what it was about, and " -> "
/// with the error if it failed. Valid until the next call of this function.
EXPORT const char* emulator_calls() {
  std::lock_guard<std::mutex> lock(state.mutex);
  state.calls_read = state.calls;
  return state.calls_read.c_str();
}

EXPORT void emulator_clear_calls() {
  std::lock_guard<std::mutex> lock(state.mutex);
  state.calls.clear();
}

/// Lets `after` calls of `function` through and fails the next one, once, with `code`.
EXPORT void emulator_fail(const char* function, int after, int code) {
  std::lock_guard<std::mutex> lock(state.mutex);
  state.failures[function] = {after, code};
}

/// Allocated on all devices.
EXPORT long long emulator_bytes_in_use() {
  std::lock_guard<std::mutex> lock(state.mutex);
  long long bytes = 0;
  for (const Device& device : state.devices) {
    if (device.context != nullptr) bytes += device.context->arena.in_use();
  }
  return bytes;
}

/// As if the library had just been loaded: all contexts, handles and memory are gone, and the
/// environment is read again.
EXPORT void emulator_reset() {
  std::lock_guard<std::mutex> lock(state.mutex);
  for (Device& device : state.devices) device = Device();
  state.failures.clear();
  state.calls.clear();
  state.initialised = false;
  current = nullptr;
}

/// For the other emulated libraries: `work` on a stream, as a call named `function` that is logged
/// and can be made to fail. Takes over `data`, which is freed with std::free.
EXPORT int emulator_enqueue(const char* function, const char* about, Stream* stream,
                            void (*work)(void*), void* data) {
  std::shared_ptr<void> owner(data, std::free);
  return call_context(function, [&](Context&) {
    note(about);
    return enqueue(stream, [work, owner] {
      work(owner.get());
      return CUDA_SUCCESS;
    });
  });
}

/// The same for a call that does nothing on a stream.
EXPORT int emulator_call(const char* function, const char* about) {
  return call_context(function, [&](Context&) {
    note(about);
    return CUDA_SUCCESS;
  });
}
