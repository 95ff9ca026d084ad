#ifndef KVKEEP_EVAL_TASKS_HPP
#define KVKEEP_EVAL_TASKS_HPP

#include "choice.hpp"
#include "compare.hpp"
#include "question.hpp"
#include "task_data.hpp"
#include "task_report.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

// The tasks of Yao, Li, Zhao, "SirLLM", ACL 2024, arXiv 2405.12528.
enum class task_name : std::uint8_t { grocery, daily_dialog, rock_paper_scissors };

inline constexpr std::size_t least_task_budget = 8;         // 4 sinks and a few more
inline constexpr std::size_t most_task_budget = 1U << 20U;  // tokens
inline constexpr std::size_t most_task_size = 1'000'000;    // dialogs, turns of one or rounds
inline constexpr std::size_t usual_grocery_dialogs = 500;   // 548 in the paper

// What `kvkeep-eval tasks` is asked to do.
struct task_options {
  std::filesystem::path model;      // a directory, or a llama2.c checkpoint
  std::filesystem::path tokenizer;  // empty: the directory's own
  std::size_t threads = 1;
  task_name task = task_name::grocery;
  std::filesystem::path text;          // grocery: any text; daily_dialog: dialogs; else empty
  std::vector<std::string> policies;   // specs, in the order of the report; none: policies_at_budget()
  std::size_t budget = 128;            // tokens that each of these keeps
  std::optional<std::size_t> dialogs;  // of grocery, by default 500; of daily_dialog at most, by default all
  std::size_t distractors = 20;        // turns of a grocery dialog between the fact and the question
  std::size_t stem_words = 6;          // of a distractor
  goods_kind goods = goods_kind::groceries;
  std::size_t rounds = 2000;  // of rock_paper_scissors, per player
  std::size_t seed = 0;
  choice_rule rule = choice_rule::mean;
};

// Data of a task under the name that the authors gave theirs.
struct task_file {
  std::string name;
  std::vector<dialog> dialogs;
};

// The data that the options ask for: one file, or one a player.
[[nodiscard]] std::vector<task_file> make_task_data(const task_options& options);

// dense, and streaming_llm, sir_llm, random and interval that keep `budget` tokens each, more than 5: 4 sinks, and
// beside them no window where a policy can do without, as in the authors' runs. `room` is dense's.
[[nodiscard]] std::vector<std::string> policies_at_budget(std::size_t budget, std::size_t room);

// Runs the task under every policy. All is checked before the first dialog begins; if a policy fails all the same, the
// report has those before it and the error. `random` has another seed in every dialog.
[[nodiscard]] task_report run_tasks(const task_options& options, const compare_hooks& hooks = {});

[[nodiscard]] std::string_view text_of(task_name task);
[[nodiscard]] std::string_view text_of(choice_rule rule);
[[nodiscard]] std::string_view text_of(goods_kind goods);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASKS_HPP
