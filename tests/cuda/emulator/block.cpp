// Blocks of threads as fibers.
//
// Blocks run one after the other. A block's threads run as fibers of the calling host thread: each
// runs until it ends or waits in a barrier or a warp collective, which lets go when all threads
// that take part have arrived. A fiber that has run its thread to the end draws the next thread, so
// that a kernel that never waits runs on one stack, without a switch.
//
// NEEDLE_EMULATOR_ORDER is the order of blocks and threads: "forward" (the default), "reverse", or
// a number, the seed of random orders. A result that depends on it is a race. Shared memory holds
// NaN when a block begins.
#include "block.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

// void emulator_switch(void** save, void* restore): saves the registers that a call preserves and
// the stack pointer, and goes on where `restore` was saved.
extern "C" void emulator_switch(void** save, void* restore) __asm__("emulator_switch");

#if defined(__x86_64__)
__asm__(R"(
.text
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
constexpr int kSavedWords = 8, kReturnAddress = 6;
#elif defined(__aarch64__)
__asm__(R"(
.text
.balign 4
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
constexpr int kSavedWords = 20, kReturnAddress = 11;
#else
#error "the emulator switches fibers on x86-64 and aarch64 only"
#endif

namespace emulator {
namespace {

constexpr int kLaunchFailed = 719, kIllegalAddress = 700;
constexpr int kWarp = 32;
constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kSharedGuard = 256;
constexpr int kPoison = 0xFF;  // NaN as float and double, -1 as an integer

/// The call in which a thread waits.
struct Wait {
  const char* what;
  const char* file;
  int line;
  unsigned mask;  // of the lanes that take part; 0: the whole block

  bool same(const Wait& other) const {
    return line == other.line && mask == other.mask && same(what, other.what) &&
           same(file, other.file);
  }
  static bool same(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }
};

struct Thread {
  enum { kNew, kReady, kWaiting, kEnded } state = kNew;
  void* stack = nullptr;  // the saved stack pointer
  Wait wait = {};
  uint64_t value = 0;  // what it brings to a collective
  int source = -1;     // the lane whose value it asks for
  uint64_t result = 0;
};

/// The orders in which blocks and threads run.
class Order {
 public:
  Order() {
    const char* text = std::getenv("NEEDLE_EMULATOR_ORDER");
    if (text == nullptr || *text == '\0' || std::strcmp(text, "forward") == 0) return;
    if (std::strcmp(text, "reverse") == 0) {
      reverse_ = true;
    } else {
      random_ = true;
      generator_.seed(std::strtoul(text, nullptr, 10));
    }
  }

  void begin(std::vector<unsigned>& items, size_t count) {
    items.resize(count);
    std::iota(items.begin(), items.end(), 0u);
    if (reverse_) std::reverse(items.begin(), items.end());
    again(items);
  }

  void again(std::vector<unsigned>& items) {
    if (random_) std::shuffle(items.begin(), items.end(), generator_);
  }

 private:
  bool reverse_ = false, random_ = false;
  std::mt19937 generator_;
};

/// The top of stack number `index`. Stacks are kept for the next launch; below each lies a page
/// that may not be touched.
char* stack_top(size_t index) {
  static std::vector<char*> stacks;
  while (stacks.size() <= index) {
    const size_t page = sysconf(_SC_PAGESIZE);
    void* memory =
        mmap(nullptr, page + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    mprotect(memory, page, PROT_NONE);
    stacks.push_back(static_cast<char*>(memory) + page + kStackBytes);
  }
  return stacks[index];
}

std::string text(const Index& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
         std::to_string(index.z) + ")";
}

std::string text(const Wait& wait) {
  return std::string(wait.what) + " (" + wait.file + ":" + std::to_string(wait.line) + ")";
}

Index place(unsigned number, const Index& size) {
  return {number % size.x, number / size.x % size.y, number / size.x / size.y};
}

class Block;
Block* running = nullptr;

class Block {
 public:
  Block(const Launch& launch, void** parameters, Order& order)
      : launch_(launch), parameters_(parameters), order_(order), library_(*launch.kernel->library) {
    threads_.resize(size_t(launch.block.x) * launch.block.y * launch.block.z);
    shared_.resize(launch.shared_bytes + kSharedGuard + kAlignment);
    dynamic_ = shared_.data() + (-reinterpret_cast<uintptr_t>(shared_.data()) % kAlignment);
  }

  Outcome run(unsigned number) {
    const Index block = place(number, launch_.grid);
    std::fill(threads_.begin(), threads_.end(), Thread());
    std::memset(library_.shared_begin, kPoison, library_.shared_end - library_.shared_begin);
    std::memset(dynamic_, kPoison, launch_.shared_bytes + kSharedGuard);
    *library_.dynamic_shared = dynamic_;
    *library_.block = block;
    *library_.block_size = launch_.block;
    *library_.grid_size = launch_.grid;
    order_.begin(sequence_, threads_.size());
    drawn_ = ended_ = arrived_ = holding_ = 0;
    failure_.clear();
    running = this;

    for (size_t stack = 0; drawn_ < threads_.size() && failure_.empty(); ++stack) start(stack);
    while (ended_ < threads_.size() && failure_.empty()) {
      order_.again(sequence_);
      bool progress = false;
      for (unsigned thread : sequence_) {
        if (threads_[thread].state != Thread::kReady) continue;
        progress = true;
        resume(thread);
        if (!failure_.empty()) break;
      }
      if (!progress) explain();
    }
    if (failure_.empty()) return {check_shared(block)};
    return {kLaunchFailed, "kernel " + launch_.name + ", block " + text(block) + ": " + failure_};
  }

  int barrier(const Wait& wait, bool predicate) {
    if (arrived_ == 0) {
      meeting_ = current_;
    } else if (const Wait& other = threads_[meeting_].wait; !wait.same(other)) {
      fail(name(current_) + " waits at " + text(wait) + " while " + name(meeting_) + " waits at " +
           text(other));
    }
    holding_ += predicate;
    if (++arrived_ == threads_.size()) {
      for (Thread& thread : threads_) {
        thread.state = Thread::kReady;
        thread.result = holding_;
      }
      arrived_ = holding_ = 0;
    } else {
      threads_[current_].state = Thread::kWaiting;
    }
    return int(leave(wait));
  }

  uint64_t collective(const Wait& wait, uint64_t value, int source) {
    Thread& self = threads_[current_];
    const unsigned first = current_ / kWarp * kWarp;
    if ((wait.mask >> (current_ - first) & 1) == 0) {
      fail(name(current_) + " calls " + text(wait) + " with a mask without its own lane");
    }
    self.wait = wait;
    self.state = Thread::kWaiting;
    self.value = value;
    self.source = source;
    // A block's last warp may have fewer lanes than the mask names.
    const unsigned lanes = std::min<size_t>(kWarp, threads_.size() - first);
    for (unsigned lane = 0; lane < lanes; ++lane) {
      if (wait.mask >> lane & 1 && !waits_at(threads_[first + lane], wait)) return leave(wait);
    }
    release(&threads_[first], lanes, wait.mask);
    return leave(wait);
  }

  unsigned active() const {
    const size_t first = current_ / kWarp * kWarp;
    unsigned mask = 0;
    for (size_t lane = 0; lane < kWarp && first + lane < threads_.size(); ++lane) {
      mask |= unsigned(threads_[first + lane].state != Thread::kEnded) << lane;
    }
    return mask;
  }

 private:
  static constexpr size_t kAlignment = 1024;

  static bool waits_at(const Thread& thread, const Wait& wait) {
    return thread.state == Thread::kWaiting && thread.wait.same(wait);
  }

  /// All lanes of the mask have arrived: gives each its result and lets it go on.
  static void release(Thread* warp, unsigned lanes, unsigned mask) {
    uint64_t ballot = 0;
    for (unsigned lane = 0; lane < lanes; ++lane) {
      if (mask >> lane & 1 && warp[lane].value != 0) ballot |= uint64_t(1) << lane;
    }
    for (unsigned lane = 0; lane < lanes; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      Thread& thread = warp[lane];
      const int source = thread.source;
      if (source < 0) {
        thread.result = ballot;
      } else if (unsigned(source) < lanes && mask >> source & 1) {
        thread.result = warp[source].value;
      } else {
        thread.result = ~uint64_t(0);  // undefined on a device: NaN
      }
      thread.state = Thread::kReady;
    }
  }

  static void fiber() {
    Block& block = *running;
    while (block.drawn_ < block.threads_.size()) {
      block.enter(block.sequence_[block.drawn_++]);
      const Kernel& kernel = *block.launch_.kernel;
      kernel.invoke(kernel.function, block.parameters_);
      block.threads_[block.current_].state = Thread::kEnded;
      ++block.ended_;
    }
    void* never_resumed;
    emulator_switch(&never_resumed, block.scheduler_);
  }

  void start(size_t stack) {
    void** top = reinterpret_cast<void**>(stack_top(stack));
    void** saved = top - kSavedWords;
    std::fill(saved, top, nullptr);
    saved[kReturnAddress] = reinterpret_cast<void*>(&Block::fiber);
    emulator_switch(&scheduler_, saved);
  }

  void resume(unsigned thread) {
    enter(thread);
    emulator_switch(&scheduler_, threads_[thread].stack);
  }

  void enter(unsigned thread) {
    current_ = thread;
    *library_.thread = place(thread, launch_.block);
  }

  /// Waits: goes to the scheduler, and comes back when the thread is ready and has its result.
  uint64_t leave(const Wait& wait) {
    Thread& self = threads_[current_];
    self.wait = wait;
    emulator_switch(&self.stack, scheduler_);
    return self.result;
  }

  /// The launch is lost; the fibers are left where they are.
  [[noreturn]] void fail(const std::string& message) {
    failure_ = message;
    void* never_resumed;
    emulator_switch(&never_resumed, scheduler_);
    std::abort();
  }

  /// No thread can go on: says which one waits for which.
  void explain() {
    unsigned waiting = 0;
    while (threads_[waiting].state != Thread::kWaiting) ++waiting;
    const Wait& wait = threads_[waiting].wait;
    const bool block_wide = wait.mask == 0;
    const unsigned first = block_wide ? 0 : waiting / kWarp * kWarp;
    for (unsigned other = first; other < threads_.size(); ++other) {
      if (!block_wide && (wait.mask >> (other - first) & 1) == 0) continue;
      if (waits_at(threads_[other], wait)) continue;
      failure_ =
          name(waiting) + " waits at " + text(wait) + ", which " + name(other) +
          " does not reach: it " +
          (threads_[other].state == Thread::kEnded ? "has ended"
                                                   : "waits at " + text(threads_[other].wait));
      return;
    }
    failure_ = name(waiting) + " waits at " + text(wait) + " for ever";
  }

  Outcome check_shared(const Index& block) const {
    const char* guard = dynamic_ + launch_.shared_bytes;
    for (size_t i = 0; i < kSharedGuard; ++i) {
      if (guard[i] != char(kPoison)) {
        return {kIllegalAddress, "kernel " + launch_.name + ", block " + text(block) + ": wrote " +
                                     std::to_string(i) +
                                     " bytes beyond its dynamic shared memory of " +
                                     std::to_string(launch_.shared_bytes)};
      }
    }
    return {0, ""};
  }

  std::string name(unsigned thread) const { return "thread " + text(place(thread, launch_.block)); }

  const Launch& launch_;
  void** const parameters_;
  Order& order_;
  const Library& library_;
  std::vector<Thread> threads_;
  std::vector<unsigned> sequence_;
  std::vector<char> shared_;
  char* dynamic_;
  void* scheduler_ = nullptr;  // its saved stack pointer
  unsigned current_ = 0;
  size_t drawn_ = 0, ended_ = 0;  // how many threads have begun, have ended
  size_t arrived_ = 0;            // how many wait at the block's barrier,
  int holding_ = 0;               // with a predicate that holds,
  unsigned meeting_ = 0;          // and the first of them
  std::string failure_;
};

const Runtime kRuntime = {
    [](const char* what, bool predicate, const char* file, int line) {
      return running->barrier({what, file, line, 0}, predicate);
    },
    [](const char* what, unsigned mask, unsigned long long value, int source, const char* file,
       int line) -> unsigned long long {
      return running->collective({what, file, line, mask}, value, source);
    },
    [] { return running->active(); },
};

}  // namespace

Outcome run(const Launch& launch, void** parameters) {
  *launch.kernel->library->runtime = &kRuntime;
  Order order;
  Block block(launch, parameters, order);
  std::vector<unsigned> blocks;
  order.begin(blocks, size_t(launch.grid.x) * launch.grid.y * launch.grid.z);
  for (unsigned number : blocks) {
    Outcome outcome = block.run(number);
    if (outcome.code != 0) return outcome;
  }
  return {0, ""};
}

}  // namespace emulator
