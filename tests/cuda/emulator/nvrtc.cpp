// An NVRTC that compiles kernels for the CPU, with the system's C++ compiler and shim.h.
//
// The "cubin" of a program is the path of a shared library, which the emulated driver loads. It is
// in NEEDLE_EMULATOR_KERNELS, or beside this library and removed when the process ends.
// A program is preprocessed first, to find its kernels, each `extern "C" __global__ void
// name(...)`: for each an entry is appended by which the driver calls it without knowing its
// parameters.
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

extern char** environ;

namespace {

enum nvrtcResult : int {
  NVRTC_SUCCESS = 0,
  NVRTC_ERROR_OUT_OF_MEMORY = 1,
  NVRTC_ERROR_PROGRAM_CREATION_FAILURE = 2,
  NVRTC_ERROR_INVALID_INPUT = 3,
  NVRTC_ERROR_INVALID_PROGRAM = 4,
  NVRTC_ERROR_INVALID_OPTION = 5,
  NVRTC_ERROR_COMPILATION = 6,
  NVRTC_ERROR_BUILTIN_OPERATION_FAILURE = 7,
};

constexpr int kArchitectures[] = {50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90};

struct Program {
  std::string source, name;
  std::vector<std::pair<std::string, std::string>> headers;  // name and text
  std::string log, binary;
};

std::atomic<int> compilations{0};

/// The folder of this process's kernels, removed when it ends if nobody chose it.
class Folder {
 public:
  Folder() {
    const char* parent = std::getenv("NEEDLE_EMULATOR_KERNELS");
    Dl_info self;
    if (parent != nullptr) {
      path_ = parent;
      kept_ = true;
    } else if (dladdr(reinterpret_cast<void*>(&compilations), &self) != 0) {
      path_ = self.dli_fname;
      path_ = path_.substr(0, path_.rfind('/'));
    }
    path_ += "/kernels-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::perror(path_.c_str());
    owner_ = getpid();
  }
  ~Folder() {
    if (kept_ || getpid() != owner_) return;  // a forked child's owner is another
    for (const std::string& file : files_) std::remove(file.c_str());
    rmdir(path_.c_str());
  }

  std::string add(const std::string& name) {
    std::lock_guard<std::mutex> lock(mutex_);
    return *files_.insert(path_ + "/" + name).first;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool kept_ = false;
  pid_t owner_;
  std::mutex mutex_;
  std::set<std::string> files_;
};

Folder& folder() {
  static Folder it;
  return it;
}

std::string read(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

/// The words of the environment's CXX, or c++.
std::vector<std::string> compiler() {
  const char* set = std::getenv("CXX");
  std::istringstream words(set != nullptr && *set != '\0' ? set : "c++");
  std::vector<std::string> command;
  for (std::string word; words >> word;) command.push_back(word);
  return command;
}

/// Runs a command whose standard error goes to the file `log`; true if it ends with 0.
bool run(const std::vector<std::string>& command, const std::string& log) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  pid_t child;
  const int failed =
      posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    std::ofstream(log, std::ios::app) << arguments[0] << ": " << std::strerror(failed) << "\n";
    return false;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Takes the options of NVRTC that a C++ compiler understands too. False with a line in the log if
/// the architecture is not one that NVRTC knows.
bool translate(const std::vector<std::string>& options, std::vector<std::string>& flags,
               int& architecture, bool& real, std::string& log) {
  const std::pair<std::string, std::string> kinds[] = {{"--include-path", "-I"},
                                                       {"-include-path", "-I"},
                                                       {"--define-macro", "-D"},
                                                       {"-define-macro", "-D"},
                                                       {"--undefine-macro", "-U"},
                                                       {"-I", "-I"},
                                                       {"-D", "-D"},
                                                       {"-U", "-U"},
                                                       {"--gpu-architecture", ""},
                                                       {"-arch", ""}};
  for (size_t i = 0; i < options.size(); ++i) {
    for (const auto& [spelling, flag] : kinds) {
      if (options[i].compare(0, spelling.size(), spelling) != 0) continue;
      std::string value = options[i].substr(spelling.size());
      if (value.empty() && i + 1 < options.size()) value = options[++i];
      if (spelling.size() > 2 && value[0] == '=') value = value.substr(1);
      if (!flag.empty()) {
        flags.push_back(flag + value);
        break;
      }
      real = value.compare(0, 3, "sm_") == 0;
      architecture = std::atoi(value.c_str() + value.find('_') + 1);
      for (int known : kArchitectures) {
        if (known == architecture) goto next_option;
      }
      log = "nvrtc: error: invalid value for --gpu-architecture (-arch): " + value + "\n";
      return false;
    }
  next_option:;
  }
  return true;
}

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

/// The names of the functions that are declared `extern "C" ... void name(` in preprocessed source.
std::set<std::string> find_kernels(const std::string& source) {
  std::set<std::string> names;
  const std::string start = "extern \"C\"";
  for (size_t at = source.find(start); at != std::string::npos; at = source.find(start, at)) {
    at += start.size();
    const size_t end = source.find_first_of(";{", at), result = source.find("void", at);
    if (result == std::string::npos || result > end) continue;
    const size_t bracket = source.find('(', result);
    if (bracket == std::string::npos || bracket > end) continue;
    size_t last = bracket;
    while (std::isspace(static_cast<unsigned char>(source[last - 1]))) --last;
    size_t first = last;
    while (is_name(source[first - 1])) --first;
    names.insert(source.substr(first, last - first));
  }
  return names;
}

nvrtcResult compile(Program& program, const std::vector<std::string>& options) {
  const int number = ++compilations;
  const std::string base = std::to_string(number);
  std::vector<std::string> flags;
  int architecture = 52;
  bool real = false;
  program.log.clear();
  program.binary.clear();
  if (!translate(options, flags, architecture, real, program.log)) {
    return NVRTC_ERROR_INVALID_OPTION;
  }

  for (const auto& [name, text] : program.headers) {
    for (size_t slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      mkdir((folder().path() + "/" + name.substr(0, slash)).c_str(), 0700);
    }
    write(folder().add(name), text);
  }
  const std::string source = folder().add(base + ".cu"), log = folder().add(base + ".log"),
                    expanded = folder().add(base + ".ii"), library = folder().add(base + ".so");
  // Internal linkage for all: what is not used is not compiled, and a __shared__ variable of a
  // template can be in a section of its own.
  write(source, "namespace {\n#line 1 \"" + program.name + "\"\n" + program.source + "\n}\n");

  const std::vector<std::string> common = {"-std=c++17", "-w", "-fno-diagnostics-color"};
  std::vector<std::string> command = compiler();
  command.insert(command.end(), common.begin(), common.end());
  command.insert(command.end(),
                 {"-E", "-x", "c++", "-include", EMULATOR_SOURCES "/shim.h", "-I" + folder().path(),
                  "-D__CUDACC__", "-D__CUDACC_RTC__", "-D__NVCC__",
                  "-D__CUDA_ARCH__=" + std::to_string(architecture * 10)});
  command.insert(command.end(), flags.begin(), flags.end());
  command.insert(command.end(), {source, "-o", expanded});
  bool compiled = run(command, log);
  if (compiled) {
    std::string entries;
    for (const std::string& kernel : find_kernels(read(expanded))) {
      entries +=
          "extern \"C\" __attribute__((visibility(\"default\"))) emulator::Kernel "
          "emulator_kernel_" +
          kernel + ";\nemulator::Kernel emulator_kernel_" + kernel + " = emulator::describe(" +
          kernel + ");\n";
    }
    std::ofstream(expanded, std::ios::app) << entries;
    command = compiler();
    command.insert(command.end(), common.begin(), common.end());
    // A kernel may view floats as float4. Contraction is off so that results are the same on all
    // processors.
    command.insert(command.end(), {"-O1", "-fPIC", "-shared", "-fvisibility=hidden",
                                   "-fno-strict-aliasing", "-ffp-contract=off", "-fno-exceptions",
                                   "-fno-rtti", "-x", "c++-cpp-output", expanded, "-o", library});
    compiled = run(command, log);
    std::remove(expanded.c_str());  // megabytes, of no use once it is compiled
  }
  program.log += read(log);
  if (!compiled) return NVRTC_ERROR_COMPILATION;
  // As with NVRTC, a virtual architecture has no binary.
  if (real) program.binary = library;
  return NVRTC_SUCCESS;
}

}  // namespace

EXPORT const char* nvrtcGetErrorString(nvrtcResult result) {
  switch (result) {
    case NVRTC_SUCCESS:
      return "NVRTC_SUCCESS";
    case NVRTC_ERROR_OUT_OF_MEMORY:
      return "NVRTC_ERROR_OUT_OF_MEMORY";
    case NVRTC_ERROR_PROGRAM_CREATION_FAILURE:
      return "NVRTC_ERROR_PROGRAM_CREATION_FAILURE";
    case NVRTC_ERROR_INVALID_INPUT:
      return "NVRTC_ERROR_INVALID_INPUT";
    case NVRTC_ERROR_INVALID_PROGRAM:
      return "NVRTC_ERROR_INVALID_PROGRAM";
    case NVRTC_ERROR_INVALID_OPTION:
      return "NVRTC_ERROR_INVALID_OPTION";
    case NVRTC_ERROR_COMPILATION:
      return "NVRTC_ERROR_COMPILATION";
    case NVRTC_ERROR_BUILTIN_OPERATION_FAILURE:
      return "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE";
  }
  return "NVRTC_ERROR unknown";
}

EXPORT nvrtcResult nvrtcVersion(int* major, int* minor) {
  *major = *minor = 0;  // no real one's, whose kernels may lie in the same cache
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcGetNumSupportedArchs(int* count) {
  *count = sizeof kArchitectures / sizeof *kArchitectures;
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcGetSupportedArchs(int* architectures) {
  std::memcpy(architectures, kArchitectures, sizeof kArchitectures);
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcCreateProgram(Program** program, const char* source, const char* name,
                                      int header_count, const char* const* headers,
                                      const char* const* header_names) {
  if (program == nullptr || source == nullptr || header_count < 0) return NVRTC_ERROR_INVALID_INPUT;
  *program = new Program{source, name != nullptr ? name : "default_program", {}, "", ""};
  for (int i = 0; i < header_count; ++i) {
    (*program)->headers.emplace_back(header_names[i], headers[i]);
  }
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcDestroyProgram(Program** program) {
  if (program == nullptr || *program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  return compile(*program, std::vector<std::string>(options, options + count));
}

// Sizes count the terminating 0 of a text. So does the binary's here: it is a path.

EXPORT nvrtcResult nvrtcGetProgramLogSize(Program* program, size_t* size) {
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *size = program->log.size() + 1;
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcGetProgramLog(Program* program, char* log) {
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcGetCUBINSize(Program* program, size_t* size) {
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *size = program->binary.empty() ? 0 : program->binary.size() + 1;
  return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcGetCUBIN(Program* program, char* binary) {
  if (program == nullptr || program->binary.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(binary, program->binary.c_str(), program->binary.size() + 1);
  return NVRTC_SUCCESS;
}

/// For tests: how many programs this process has compiled.
EXPORT int emulator_compilations() { return compilations; }
