#ifndef KVKEEP_EVAL_COMMAND_OUTPUT_HPP
#define KVKEEP_EVAL_COMMAND_OUTPUT_HPP

#include "output_file.hpp"
#include "plot.hpp"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace kvkeep_eval {

// The file of an option; none for an empty path.
[[nodiscard]] std::optional<output_file> wanted_file(const std::filesystem::path& path);

// The picture that an option asks for; none for an empty path. A failure if gnuplot cannot draw it.
[[nodiscard]] std::optional<picture> wanted_picture(const std::filesystem::path& path);

// Draws a script's picture to the file of an option, if there is one. What goes wrong is added to `trouble`: the table can be
// shown all the same.
void draw_to(const std::optional<output_file>& file, const std::optional<picture>& kind,
             const std::function<std::string(picture)>& script, std::string& trouble);

// Prints the table of a run, and then fails if there was trouble; the signal that cut the run short, or 0.
[[nodiscard]] int finish(const std::string& table, const std::string& trouble, bool interrupted);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_COMMAND_OUTPUT_HPP
