// kvkeep-eval as users run it: what it prints, its exit codes, its files, and Ctrl-C.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "support.hpp"

extern "C" char** environ;

namespace kvkeep_eval_test {
namespace {

namespace fs = std::filesystem;

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The processor time that a process has used, in ticks.
long processor_ticks(::pid_t process) {
  std::ifstream stat("/proc/" + std::to_string(process) + "/stat");
  std::string field;
  for (int i = 1; i < 14; ++i) stat >> field;  // no blank is in the program's name
  long user = 0;
  stat >> user;
  return user;
}

/// What a finished program left.
struct outcome {
  int status = 0;  ///< its exit code, or -1 if a signal ended it
  std::string out;
  std::string error;
};

class Program : public testing::Test {
 protected:
  /// Runs the program with these arguments, its output to a file or to `output`; `meanwhile` is given its process number.
  outcome run(std::vector<std::string> arguments, const char* output = nullptr,
              const std::function<void(::pid_t)>& meanwhile = nullptr) {
    arguments.insert(arguments.begin(), KVKEEP_EVAL_PROGRAM);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    const fs::path out = output == nullptr ? file("stdout") : fs::path(output);
    const fs::path error = file("stderr");
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), flags, 0600);
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, error.c_str(), flags, 0600);
    ::pid_t child = 0;
    EXPECT_EQ(::posix_spawn(&child, pointers[0], &actions, nullptr, pointers.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    if (meanwhile) meanwhile(child);
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, output == nullptr ? contents(out) : std::string(),
            contents(error)};
  }

  /// The arguments of a comparison of two policies over 60 tokens, and these.
  static std::vector<std::string> compare(const std::vector<std::string>& more) {
    std::vector<std::string> all{"compare",
                                 "--model",
                                 bundled_model().string(),
                                 "--text",
                                 data_file("gettysburg.txt").string(),
                                 "--tokens",
                                 "60",
                                 "--policies",
                                 "dense;streaming_llm:sinks=4,window=9"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  [[nodiscard]] fs::path file(const char* name) const { return directory_.path() / name; }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory_.path()), {}));
  }

 private:
  temporary_directory directory_;
};

TEST_F(Program, ComparesAndWritesFiles) {
  const outcome done = run(compare({"--json", file("a.json").string(), "--csv", file("a.csv").string()}));
  EXPECT_EQ(done.status, 0);
  EXPECT_EQ(done.error, "");
  EXPECT_TRUE(has(done.out, "streaming_llm:sinks=4,window=9           13"));
  EXPECT_TRUE(has(contents(file("a.json")), "\"spec\": \"streaming_llm:sinks=4,window=9\""));
  EXPECT_TRUE(has(contents(file("a.csv")), "\ndense,60,60,"));
  EXPECT_EQ(files(), 4U);  // with stdout and stderr
}

TEST_F(Program, ListsItsPolicies) {
  const outcome done = run({"policies"});
  EXPECT_EQ(done.status, 0);
  EXPECT_TRUE(has(done.out, "streaming_llm: keeps"));
  EXPECT_TRUE(has(done.out, "    window=256  newest tokens, the query included (1 .. 2147483647)"));  // of recompute
}

TEST_F(Program, TellsAWrongCommandLineFromAFailure) {
  EXPECT_EQ(run({"--help"}).status, 0);
  EXPECT_EQ(run({"--version"}).status, 0);
  const std::vector<std::vector<std::string>> wrong{{},
                                                    {"nosuch"},
                                                    {"compare"},
                                                    compare({"--nosuch"}),
                                                    compare({"--chunk", "-1"}),
                                                    compare({"--chunk", "x"}),
                                                    compare({"--chunk", "0"}),
                                                    compare({"--chunk", "513"}),
                                                    compare({"--threads", "0"}),
                                                    compare({"--json", ""}),
                                                    compare({"--recompute-every", "0"})};
  for (const auto& arguments : wrong) {
    const outcome done = run(arguments);
    EXPECT_EQ(done.status, 2) << (arguments.empty() ? "" : arguments.back());
    EXPECT_NE(done.error, "");
    EXPECT_EQ(done.out, "");
  }
  const outcome failed = run(compare({"--recompute-every", "5"}));
  EXPECT_EQ(failed.status, 1);
  EXPECT_EQ(failed.error, "kvkeep-eval: recompute-every is 5, but no recompute is among the policies\n");
  EXPECT_EQ(failed.out, "");
}

TEST_F(Program, TakesTasksAndWritesTheirData) {
  const std::string model = bundled_model().string();
  const std::string directory = file(".").string();
  const std::vector<std::string> play{"tasks", "--task", "rock_paper_scissors", "--model", model, "--rounds", "2"};
  std::vector<std::string> all = play;
  all.insert(all.end(), {"--policies", "streaming_llm", "--json", file("a.json").string(), "--write", directory});
  const outcome done = run(all);
  EXPECT_EQ(done.status, 0) << done.error;
  EXPECT_TRUE(has(done.out, "rock_paper_scissors: 3 dialogs, seed 0, rounds 2; model")) << done.out;
  EXPECT_TRUE(has(contents(file("a.json")), "\"task\": \"rock_paper_scissors\""));
  EXPECT_TRUE(has(contents(file("rock_paper_scissors_dominant_paper.jsonl")), "{\"id\":1,\"question\":"));
  EXPECT_EQ(files(), 6U);  // three players, the report, stdout and stderr

  const auto wrong = [&](const std::vector<std::string>& more, const std::string& named) {
    std::vector<std::string> arguments = play;
    arguments.insert(arguments.end(), more.begin(), more.end());
    const outcome refused = run(arguments);
    EXPECT_EQ(refused.status, 2) << named;
    EXPECT_TRUE(has(refused.error, named)) << refused.error;
    EXPECT_EQ(refused.out, "");
  };
  wrong({"--text", "a"}, "--text: rock_paper_scissors has no use for it");
  wrong({"--distractors", "3"}, "--distractors: rock_paper_scissors has no use for it");
  wrong({"--budget", "5"}, "5 is not a whole number from 8 to 1048576");
  wrong({"--choose", "best"}, "best not in {mean,published,sum}");
  wrong({"--policies", "dense", "--budget", "50"}, "--budget: policies that are named bring their own");
  const outcome unknown = run({"tasks", "--task", "chess", "--model", model});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_TRUE(has(unknown.error, "chess not in {dailydialog,grocery,rock_paper_scissors}")) << unknown.error;
  const outcome without = run({"tasks", "--task", "grocery", "--model", model});
  EXPECT_EQ(without.status, 2);
  EXPECT_TRUE(has(without.error, "--text")) << without.error;
}

TEST_F(Program, AsksForHiddenFactsAndDrawsHowManyWereRecalled) {
  const std::string text = data_file("gettysburg.txt").string();
  const std::vector<std::string> least{"recall", "--model", bundled_model().string(), "--text", text};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = least;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const outcome done =
      run(with({"--policies", "dense:max_tokens=300;inf_llm:sinks=4,window=96,block_size=16,count=4,representatives=4",
                "--lengths", "150,300", "--depths", "0,50", "--documents", "1", "--kinds", "distinct_key", "--json",
                file("a.json").string(), "--plot", file("a.svg").string()}));
  EXPECT_EQ(done.status, 0) << done.error;
  EXPECT_EQ(done.error, "");
  EXPECT_TRUE(has(done.out, "recall of distinct_key in gettysburg.txt: 1 documents")) << done.out;
  EXPECT_TRUE(has(done.out, "dense:max_tokens=300: skipped at 300 tokens")) << done.out;
  EXPECT_TRUE(has(contents(file("a.json")), "\"retrieved_by_layer\": ["));
  EXPECT_TRUE(has(contents(file("a.svg")), "</svg>"));
  EXPECT_EQ(files(), 4U);  // with stdout and stderr

  const auto wrong = [&](const std::vector<std::string>& more, const std::string& named) {
    const outcome refused = run(with(more));
    EXPECT_EQ(refused.status, 2) << named;
    EXPECT_TRUE(has(refused.error, named)) << refused.error;
    EXPECT_EQ(refused.out, "");
  };
  wrong({"--lengths", "1000,10"}, "--lengths: 10 is not a whole number from 64 to 1073741824");
  wrong({"--depths", "50,101"}, "--depths: 101 is not a whole number from 0 to 100");
  wrong({"--documents", "0"}, "--documents: 0 is not a whole number from 1 to 1048576");
  wrong({"--kinds", "grocery,poem"}, "poem not in {distinct_key,grocery,pass_key}");
  EXPECT_EQ(run(with({"--json", text})).status, 1);
  EXPECT_EQ(run({"recall", "--model", bundled_model().string()}).status, 2);
}

TEST_F(Program, LeavesNothingHalfWritten) {
  const std::string json = file("a.json").string();
  write_file(json, "old");
  // The JSON could be written, the CSV could not: nothing runs, and nothing is lost.
  const outcome failed = run(compare({"--json", json, "--csv", (file("no") / "a.csv").string()}));
  EXPECT_EQ(failed.status, 1);
  EXPECT_TRUE(has(failed.error, "a.csv: cannot be written")) << failed.error;
  EXPECT_EQ(failed.out, "");
  EXPECT_EQ(contents(json), "old");
  EXPECT_EQ(files(), 3U);

  EXPECT_EQ(run(compare({"--json", json, "--baseline", "none"})).status, 1);
  EXPECT_EQ(contents(json), "old");
  EXPECT_EQ(files(), 3U);
}

TEST_F(Program, RefusesToOverwriteItsInputs) {
  const fs::path text = file("text.txt");
  write_file(text, contents(data_file("gettysburg.txt")));
  std::vector<std::string> arguments = compare({"--json", text.string()});
  *(std::find(arguments.begin(), arguments.end(), "--text") + 1) = text.string();
  const outcome failed = run(arguments);
  EXPECT_EQ(failed.status, 1);
  EXPECT_TRUE(has(failed.error, "is an input")) << failed.error;
  EXPECT_EQ(contents(text), contents(data_file("gettysburg.txt")));

  const outcome twice = run(compare({"--json", file("a").string(), "--csv", (file(".") / "a").string()}));
  EXPECT_EQ(twice.status, 1);
  EXPECT_TRUE(has(twice.error, "is asked for twice")) << twice.error;
}

// Output that has nowhere to go is an error, but the files are there.
TEST_F(Program, KeepsItsFilesWhenItsOutputIsLost) {
  const outcome lost = run(compare({"--json", file("a.json").string()}), "/dev/full");
  EXPECT_EQ(lost.status, 1);
  EXPECT_NE(lost.error, "");
  EXPECT_TRUE(has(contents(file("a.json")), "\"interrupted\": false"));
  EXPECT_EQ(run({"--help"}, "/dev/full").status, 1);
}

TEST_F(Program, DrawsAPlot) {
  const outcome drawn = run(compare({"--plot", file("a.svg").string()}));
  EXPECT_EQ(drawn.status, 0) << drawn.error;
  EXPECT_EQ(drawn.error, "");
  EXPECT_TRUE(has(contents(file("a.svg")), "</svg>"));
  const outcome wrong = run(compare({"--plot", file("a.pdf").string()}));
  EXPECT_EQ(wrong.status, 1);
  EXPECT_TRUE(has(wrong.error, ".svg or .png")) << wrong.error;
  EXPECT_EQ(wrong.out, "");
}

// A run of minutes, interrupted in its second policy: what the first gave is there.
TEST_F(Program, AnswersSignalsWithWhatItHas) {
  const fs::path text = file("text.txt");
  std::string long_text;
  for (int i = 0; i < 250; ++i) long_text += contents(data_file("gettysburg.txt"));
  write_file(text, long_text);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    std::vector<std::string> arguments = compare({"--json", file("a.json").string(), "--chunk", "1"});
    *(std::find(arguments.begin(), arguments.end(), "--text") + 1) = text.string();
    *(std::find(arguments.begin(), arguments.end(), "--tokens") + 1) = "100000";
    *(std::find(arguments.begin(), arguments.end(), "--policies") + 1) = "dense:max_tokens=1;dense";
    const outcome stopped = run(arguments, nullptr, [&](::pid_t child) {
      while (processor_ticks(child) < 3 * ::sysconf(_SC_CLK_TCK)) ::usleep(10000);  // it has long begun
      ::kill(child, signal);
    });
    EXPECT_EQ(stopped.status, 128 + signal) << stopped.error;
    EXPECT_TRUE(has(stopped.out, "dense:max_tokens=1: 1 of 100,000 tokens, then its cache was full")) << stopped.out;
    EXPECT_TRUE(has(stopped.out, "tokens, then interrupted")) << stopped.out;
    const std::string json = contents(file("a.json"));
    EXPECT_TRUE(has(json, "\"interrupted\": true"));
    EXPECT_TRUE(has(json, "\"spec\": \"dense\""));
    EXPECT_EQ(files(), 4U);  // the text, the report, stdout and stderr
  }
}

}  // namespace
}  // namespace kvkeep_eval_test
