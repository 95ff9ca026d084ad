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
#include <thread>
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

/// What a finished program left.
struct outcome {
  int status = 0;  ///< its exit code, or -1 if a signal ended it
  std::string out;
  std::string error;
};

class Program : public testing::Test {
 protected:
  /// Runs the program with these arguments; `meanwhile` is given its process number.
  outcome run(std::vector<std::string> arguments, const std::function<void(::pid_t)>& meanwhile = nullptr) {
    arguments.insert(arguments.begin(), KVKEEP_EVAL_PROGRAM);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    const fs::path out = file("stdout");
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
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, contents(out), contents(error)};
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
  const std::vector<std::vector<std::string>> wrong{
      {}, {"nosuch"}, {"compare"}, compare({"--nosuch"}), compare({"--chunk", "-1"}), compare({"--chunk", "x"})};
  for (const auto& arguments : wrong) {
    const outcome done = run(arguments);
    EXPECT_EQ(done.status, 2) << (arguments.empty() ? "" : arguments.back());
    EXPECT_NE(done.error, "");
    EXPECT_EQ(done.out, "");
  }
  const outcome failed = run(compare({"--chunk", "0"}));
  EXPECT_EQ(failed.status, 1);
  EXPECT_EQ(failed.error, "kvkeep-eval: chunk is 0; a step has from 1 to 512 tokens\n");
  EXPECT_EQ(failed.out, "");
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

  EXPECT_EQ(run(compare({"--json", json, "--chunk", "0"})).status, 1);
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

TEST_F(Program, AnswersCtrlCWithWhatItHas) {
  const fs::path text = file("text.txt");
  std::string long_text;
  for (int i = 0; i < 400; ++i) long_text += contents(data_file("gettysburg.txt"));
  write_file(text, long_text);
  std::vector<std::string> arguments = compare({"--json", file("a.json").string(), "--chunk", "1"});
  *(std::find(arguments.begin(), arguments.end(), "--text") + 1) = text.string();
  *(std::find(arguments.begin(), arguments.end(), "--tokens") + 1) = "100000";  // minutes
  const outcome stopped = run(arguments, [&](::pid_t child) {
    while (!fs::exists(file("a.json.part"))) std::this_thread::yield();  // it has taken its arguments and begins
    ::kill(child, SIGINT);
  });
  EXPECT_EQ(stopped.status, 130) << stopped.error;
  EXPECT_TRUE(has(stopped.out, "interrupted: policies that are not listed had not begun")) << stopped.out;
  EXPECT_TRUE(has(contents(file("a.json")), "\"interrupted\": true"));
  EXPECT_FALSE(fs::exists(file("a.json.part")));
}

}  // namespace
}  // namespace kvkeep_eval_test
