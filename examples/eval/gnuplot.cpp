#include "gnuplot.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>

extern "C" char** environ;

namespace kvkeep_eval {

namespace {

// A temporary file without a name.
class scratch_file {
 public:
  scratch_file() : file_(std::tmpfile()) {
    if (file_ == nullptr) {
      throw failure("no temporary file can be made");
    }
  }
  scratch_file(const scratch_file&) = delete;
  scratch_file(scratch_file&&) = delete;
  scratch_file& operator=(const scratch_file&) = delete;
  scratch_file& operator=(scratch_file&&) = delete;
  ~scratch_file() { std::fclose(file_); }

  [[nodiscard]] int descriptor() const { return ::fileno(file_); }
  // Makes `text` the contents, to be read from the begin.
  void fill(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
      throw failure("no room for a temporary file");
    }
    std::rewind(file_);
  }
  // All that was written.
  [[nodiscard]] std::string contents() {
    std::rewind(file_);
    std::string out;
    std::array<char, 4096> block{};
    for (std::size_t count = 1; count > 0;) {
      count = std::fread(block.data(), 1, block.size(), file_);
      out.append(block.data(), count);
    }
    return out;
  }

 private:
  std::FILE* file_;
};

// Runs gnuplot, which does not read the user's settings, in a process group of its own: Ctrl-C is for this program. Its exit
// status, or -1 if it cannot be run at all.
int run_gnuplot(int input, int output, int errors) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::array<char, 8> name{"gnuplot"};
  std::array<char, 3> no_settings{"-d"};
  std::array<char*, 3> arguments{name.data(), no_settings.data(), nullptr};
  ::pid_t child = 0;
  const int failed = ::posix_spawnp(&child, name.data(), &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    return -1;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

// Where and why gnuplot failed, in its words: the last line of them that says something.
std::string last_line(const std::string& text) {
  const std::size_t end = text.find_last_not_of(" \n");
  if (end == std::string::npos) {
    return "nothing said";
  }
  const std::size_t begin = text.find_last_of('\n', end) + 1;  // 0 if there is but one line
  return text.substr(begin, end + 1 - begin);
}

// Whether a picture goes on to its end; gnuplot does not tell that its disk was full.
bool whole(std::string_view bytes, picture kind) {
  while (kind == picture::svg && bytes.ends_with('\n')) {
    bytes.remove_suffix(1);
  }
  constexpr std::string_view png_end = "IEND\xAE\x42\x60\x82";
  return bytes.ends_with(kind == picture::svg ? "</svg>" : png_end);
}

}  // namespace

void require_gnuplot(picture kind) {
  scratch_file input;
  scratch_file output;
  scratch_file errors;
  input.fill(set_terminal(kind, 100, 100));
  const int status = run_gnuplot(input.descriptor(), output.descriptor(), errors.descriptor());
  if (status != 0) {
    throw failure(fmt::format("plot: gnuplot cannot be run ({}; Debian: apt-get install gnuplot-nox)",
                              status < 0 ? "not found" : last_line(errors.contents())));
  }
}

std::string draw(const std::string& script, picture kind) {
  scratch_file input;
  scratch_file output;
  scratch_file errors;
  input.fill(script);
  const int status = run_gnuplot(input.descriptor(), output.descriptor(), errors.descriptor());
  if (status != 0) {
    throw failure(fmt::format("plot: gnuplot ended with status {} ({})", status, last_line(errors.contents())));
  }
  std::string picture_bytes = output.contents();
  if (!whole(picture_bytes, kind)) {
    throw failure("plot: gnuplot's picture is incomplete; is the disk for temporary files full?");
  }
  return picture_bytes;
}

}  // namespace kvkeep_eval
