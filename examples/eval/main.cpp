// kvkeep-eval: what each KV-cache policy costs and loses on a real model and a real text.

#include "compare_command.hpp"
#include "failure.hpp"
#include "generate_command.hpp"
#include "policies_command.hpp"
#include "random_model_command.hpp"
#include "recall_command.hpp"
#include "tasks_command.hpp"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <initializer_list>
#include <iostream>
#include <new>

namespace {

constexpr int exit_failure = 1;        // something could not be read, written or done
constexpr int exit_usage = 2;          // the command line is wrong
constexpr int exit_interrupted = 128;  // plus the signal, as shells do

// Everything written to standard output has arrived there.
void flush_output() {
  if (std::fflush(stdout) != 0 || !std::cout.flush()) {
    throw kvkeep_eval::failure("standard output cannot be written");
  }
}

int run(int argc, char** argv) {
  CLI::App app("Compares KV-cache eviction policies on a real model and a real text.", "kvkeep-eval");
  app.set_version_flag("--version", "kvkeep-eval " KVKEEP_EVAL_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong command line, 128 + signal interrupted (what was measured is shown).");
  kvkeep_eval::compare_command compare(app);
  kvkeep_eval::generate_command generate(app);
  kvkeep_eval::policies_command policies(app);
  kvkeep_eval::random_model_command random_model(app);
  kvkeep_eval::recall_command recall(app);
  kvkeep_eval::tasks_command tasks(app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    flush_output();
    return code == 0 ? 0 : exit_usage;
  }
  int signal = 0;
  for (kvkeep_eval::subcommand* const each : std::initializer_list<kvkeep_eval::subcommand*>{
           &compare, &generate, &policies, &random_model, &recall, &tasks}) {
    signal = each->asked() ? each->run() : signal;
  }
  flush_output();
  return signal == 0 ? 0 : exit_interrupted + signal;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("kvkeep-eval: out of memory\n", stderr);
    return exit_failure;
  } catch (const std::exception& error) {
    try {
      fmt::print(stderr, "kvkeep-eval: {}\n", error.what());
    } catch (...) {  // stderr itself is broken; the exit code still tells
    }
    return exit_failure;
  }
}
