#include "command_output.hpp"

#include "failure.hpp"
#include "gnuplot.hpp"
#include "interrupt.hpp"

#include <fmt/format.h>

#include <cstdio>

namespace kvkeep_eval {

std::optional<output_file> wanted_file(const std::filesystem::path& path) {
  return path.empty() ? std::nullopt : std::optional<output_file>(path);
}

std::optional<picture> wanted_picture(const std::filesystem::path& path) {
  if (path.empty()) {
    return std::nullopt;
  }
  const picture kind = picture_of(path);
  require_gnuplot(kind);
  return kind;
}

void draw_to(const std::optional<output_file>& file, const std::optional<picture>& kind,
             const std::function<std::string(picture)>& script, std::string& trouble) {
  if (!file || !kind) {
    return;
  }
  try {
    file->replace(draw(script(*kind), *kind));
  } catch (const failure& error) {
    trouble += trouble.empty() ? error.what() : fmt::format("; {}", error.what());
  }
}

int finish(const std::string& table, const std::string& trouble, bool interrupted) {
  fmt::print("{}", table);
  if (!trouble.empty()) {
    static_cast<void>(std::fflush(stdout));
    throw failure(trouble);
  }
  return interrupted ? caught_interrupt() : 0;
}

}  // namespace kvkeep_eval
