// recall: what documents hide and where, how answers are read off the model, what was retrieved, and the whole report.
#include "recall.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint.hpp"
#include "policy_step.hpp"
#include "recall_data.hpp"
#include "recall_json.hpp"
#include "recall_plot.hpp"
#include "recall_table.hpp"
#include "support.hpp"
#include "text.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::checkpoint;
using kvkeep_eval::document_maker;
using kvkeep_eval::fact_kind;
using kvkeep_eval::hidden_fact;
using kvkeep_eval::matrix;
using kvkeep_eval::recall_document;
using kvkeep_eval::recall_options;
using kvkeep_eval::recall_point;
using kvkeep_eval::recall_report;
using kvkeep_eval::recall_result;
using kvkeep_eval::run_recall;
using kvkeep_eval::sum_of;
using kvkeep_eval::token;

const checkpoint& bundled() {
  static const checkpoint source(bundled_model());
  return source;
}

const std::string& text() {
  static const std::string all = kvkeep_eval::read_text(data_file("gettysburg.txt"));
  return all;
}

document_maker maker(std::uint64_t seed = 0, std::vector<fact_kind> kinds = {fact_kind::grocery, fact_kind::pass_key}) {
  return {bundled().pieces(), bundled().begin_of_stream(), text(), "t", std::move(kinds), seed};
}

std::vector<token> part(const std::vector<token>& tokens, std::size_t first, std::size_t last) {
  return {tokens.begin() + static_cast<std::ptrdiff_t>(first), tokens.begin() + static_cast<std::ptrdiff_t>(last)};
}

/// The sentence of the model's training that a question asks for.
std::string sentence_of(const hidden_fact& fact) {
  if (fact.kind == fact_kind::grocery) {
    const std::string name = fact.stem.substr(17, fact.stem.find(" want?") - 17);  // What GROCERY did NAME want?
    EXPECT_EQ(fact.stem, "What GROCERY did " + name + " want? For " + name + " the GROCERY: ");
    return "I want you to buy for " + name + " the GROCERY: [" + fact.answer + "].\n";
  }
  const std::string statement =
      fact.stem.substr(fact.stem.find("? ") + 2);  // What is the COLOUR pass key? The COLOUR ...
  return statement + "[" + fact.answer + "].\n";
}

TEST(RecallDocument, HidesWholeLinesAtTheAskedDepth) {
  const auto& pieces = bundled().pieces();
  const document_maker make = maker();
  for (const std::size_t depth : {0U, 10U, 50U, 100U}) {
    const recall_document document = make.make({.length = 301, .depth = depth, .number = 3});
    ASSERT_EQ(document.tokens.size(), 301U);
    EXPECT_EQ(document.tokens[0], bundled().begin_of_stream());
    ASSERT_EQ(document.questions.size(), 2U);
    std::size_t first = 301;
    std::size_t last = 0;
    std::size_t length = 0;
    for (const hidden_fact& fact : document.questions) {
      const std::string said = sentence_of(fact);
      EXPECT_EQ(part(document.tokens, fact.fact.first, fact.fact.last), pieces.encode(said)) << said;
      EXPECT_EQ(pieces.decode(part(document.tokens, fact.word.first, fact.word.last)).substr(0, fact.answer.size()),
                fact.answer);
      std::vector<token> line = fact.prompt;
      line.insert(line.end(), fact.answers.begin(), fact.answers.end());
      const std::vector<token> whole = pieces.encode(fact.stem + "[" + fact.answer + "].\n");
      EXPECT_EQ(line, part(whole, 0, line.size()));
      EXPECT_EQ(pieces.decode(fact.prompt), fact.stem + "[");
      first = std::min(first, fact.fact.first);
      last = std::max(last, fact.fact.last);
      length += fact.fact.last - fact.fact.first;
    }
    EXPECT_EQ(last - first, length) << "one follows the other";
    const double filler = 300 - static_cast<double>(length);
    EXPECT_NEAR(static_cast<double>(first - 1), filler * static_cast<double>(depth) / 100, 0.51);
    if (depth > 0) {
      EXPECT_EQ(document.tokens[first - 1], make.end()[0]) << "they begin a line";
    }
  }
}

TEST(RecallDocument, FillsWithTheTextFromARandomPlaceOn) {
  const std::string numbered = "1 " + text() + " 2nd";
  const document_maker make(bundled().pieces(), bundled().begin_of_stream(), numbered, "t", {fact_kind::grocery}, 0);
  std::set<token> begins;
  for (std::size_t number = 0; number < 8; ++number) {
    const recall_document document = make.make({.length = 1500, .depth = 100, .number = number});
    const std::vector<token> filler = part(document.tokens, 1, document.questions[0].fact.first - 1);
    std::vector<token> again = bundled().pieces().encode(text());
    const std::size_t once = again.size();
    ASSERT_LT(once, filler.size()) << "it wraps around";
    for (std::size_t i = 0; again.size() < once + filler.size(); ++i) again.push_back(again[i]);
    const auto found = std::search(again.begin(), again.end(), filler.begin(), filler.end());
    EXPECT_NE(found, again.end());
    begins.insert(static_cast<token>(found - again.begin()));
  }
  EXPECT_GT(begins.size(), 4U);
}

TEST(RecallDocument, IsItsSeedAndPlace) {
  const document_maker make = maker();
  const auto tokens = [](const document_maker& from, std::size_t length, std::size_t depth, std::size_t number) {
    return from.make({.length = length, .depth = depth, .number = number}).tokens;
  };
  const std::vector<token> one = tokens(make, 200, 20, 1);
  EXPECT_EQ(one, tokens(maker(), 200, 20, 1));
  EXPECT_NE(one, tokens(maker(1), 200, 20, 1));
  EXPECT_NE(one, tokens(make, 200, 20, 2));
  EXPECT_NE(one, tokens(make, 200, 21, 1));
  std::set<std::pair<bool, bool>> orders;  // of facts and of questions
  for (std::size_t number = 0; number < 40; ++number) {
    const recall_document document = make.make({.length = 200, .depth = 50, .number = number});
    const auto& asked = document.questions;
    orders.insert({asked[0].kind == fact_kind::grocery, asked[0].fact.first < asked[1].fact.first});
  }
  EXPECT_EQ(orders.size(), 4U) << "in any order, said and asked";
}

TEST(RecallDocument, DistinctKeysHaveFiveDifferentDigitsAndKeysDifferentColours) {
  const document_maker make = maker(0, {fact_kind::pass_key, fact_kind::distinct_key});
  bool repeats = false;
  for (std::size_t number = 0; number < 20; ++number) {
    const recall_document document = make.make({.length = 100, .depth = 50, .number = number});
    EXPECT_NE(document.questions[0].stem, document.questions[1].stem);
    for (const hidden_fact& fact : document.questions) {
      ASSERT_EQ(fact.answer.size(), 5U);
      const bool different = std::set<char>(fact.answer.begin(), fact.answer.end()).size() == 5;
      EXPECT_TRUE(different || fact.kind == fact_kind::pass_key) << fact.answer;
      repeats = repeats || !different;
    }
  }
  EXPECT_TRUE(repeats) << "other keys repeat digits as they come";
}

constexpr const char* retrieving = "inf_llm:sinks=4,window=128,block_size=16,count=8,representatives=4";

recall_options small() {
  recall_options options;
  options.model = bundled_model();
  options.text = data_file("gettysburg.txt");
  options.policies = {"dense:max_tokens=256", "sliding_window:window=256", retrieving};
  options.lengths = {170, 700};
  options.depths = {0, 40};
  options.documents = 3;
  options.kinds = {fact_kind::grocery, fact_kind::distinct_key};
  return options;
}

nlohmann::json without_clock(const recall_report& report) {
  auto out = nlohmann::json::parse(kvkeep_eval::to_json(report));
  out.erase("machine");
  for (auto& result : out["results"]) result.erase("tokens_per_second");
  return out;
}

/// The small run, made once.
const recall_report& small_report() {
  static const recall_report report = run_recall(small());
  return report;
}

TEST(Recall, TellsPoliciesApart) {
  const recall_report& report = small_report();
  EXPECT_EQ(report.error, "");
  ASSERT_EQ(report.results.size(), 6U);
  const recall_result& dense = report.results[0];
  EXPECT_EQ(dense.spec, "dense:max_tokens=256");
  EXPECT_EQ(dense.documents, 6U);
  EXPECT_GE(sum_of(dense, "grocery").whole.hits, 5U) << "of 6";
  EXPECT_GE(sum_of(dense, "grocery").first.hits, sum_of(dense, "grocery").whole.hits);
  EXPECT_EQ(sum_of(dense, "").held.hits, 12U);
  EXPECT_FALSE(dense.retrieves);
  EXPECT_EQ(report.results[1].length, 700U);
  EXPECT_NE(report.results[1].skipped, "");
  EXPECT_EQ(report.results[1].documents, 0U);

  const recall_result& window = report.results[3];
  EXPECT_EQ(window.length, 700U);
  EXPECT_EQ(sum_of(window, "").whole.asked, 12U);
  EXPECT_EQ(sum_of(window, "").held.hits, 0U) << "all have left the window";
  EXPECT_LE(sum_of(window, "").whole.hits, 1U);

  const recall_result& units = report.results[5];
  EXPECT_TRUE(units.retrieves);
  const recall_point all = sum_of(units, "");
  EXPECT_EQ(all.held.hits, 0U);
  EXPECT_EQ(all.first.asked, 12U);
  EXPECT_GE(all.first.hits, 8U) << "of 12";
  ASSERT_EQ(all.layers.size(), 4U);
  EXPECT_EQ(all.layers[1].first.asked, 12U);
  EXPECT_GE(all.layers[1].first.hits, 9U) << "the copying head is there";
  EXPECT_GE(all.layers[1].mean_rank(), 1);
  EXPECT_LE(all.layers[1].mean_rank(), 8);
  EXPECT_EQ(all.layers[1].wrong.asked, 12 - all.whole.hits);
}

// The answers again, from a whole run of the stream for every token.
TEST(Recall, AnswersGreedilyTokenByToken) {
  recall_options options = small();
  options.policies = {"dense"};
  options.lengths = {170};
  options.depths = {30};
  options.documents = 4;
  const recall_report report = run_recall(options);
  const document_maker make(bundled().pieces(), bundled().begin_of_stream(), text(), "t", options.kinds, 0);
  const kvkeep_eval::llama model = bundled().load(1);
  std::size_t whole = 0;
  std::size_t first = 0;
  for (std::size_t number = 0; number < options.documents; ++number) {
    const recall_document document = make.make({.length = 170, .depth = 30, .number = number});
    std::vector<token> stream = document.tokens;
    for (const hidden_fact& asked : document.questions) {
      stream.insert(stream.end(), asked.prompt.begin(), asked.prompt.end());
      std::vector<token> answer;
      std::string text;
      while (text.find(']') == std::string::npos && answer.size() < kvkeep_eval::most_answer_tokens) {
        const auto policy = kvkeep::parse_policy("dense", {.max_tokens = stream.size()});
        auto cache = kvkeep_eval::make_model_cache(model.config(), policy, stream.size(), 1, "dense");
        const matrix states = kvkeep_eval::run_model_step(model, cache, stream, "dense");
        matrix logits;
        model.logits(states, stream.size() - 1, 1, logits);
        Eigen::Index best = 0;
        logits.row(0).maxCoeff(&best);
        answer.push_back(static_cast<token>(best));
        stream.push_back(answer.back());
        std::vector<token> line = asked.prompt;
        line.insert(line.end(), answer.begin(), answer.end());
        text = bundled().pieces().decode(line).substr(asked.stem.size() + 1);
      }
      first += answer[0] == asked.answers[0] ? 1U : 0U;
      whole += text.substr(0, text.find(']')) == asked.answer ? 1U : 0U;
      stream.insert(stream.end(), make.end().begin(), make.end().end());
    }
  }
  EXPECT_EQ(sum_of(report.results[0], "").whole.hits, whole);
  EXPECT_EQ(sum_of(report.results[0], "").first.hits, first);
  EXPECT_GT(whole, 4U) << "of 8";
}

TEST(Recall, TheSameForAnyThreadsAndSteps) {
  recall_options options = small();
  options.kinds = {fact_kind::grocery, fact_kind::pass_key};
  options.documents = 1;
  const nlohmann::json one = without_clock(run_recall(options));
  options.threads = 2;
  EXPECT_EQ(one, without_clock(run_recall(options)));
  options.threads = 1;
  options.chunk = 7;
  nlohmann::json steps = without_clock(run_recall(options));
  EXPECT_EQ(steps["chunk"], 7);
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t point = 0; point < one["results"][i]["points"].size(); ++point) {
      EXPECT_EQ(one["results"][i]["points"][point]["whole"], steps["results"][i]["points"][point]["whole"]) << i;
    }
  }
  options.seed = 1;
  options.chunk = 512;
  EXPECT_NE(one, without_clock(run_recall(options)));

  ASSERT_EQ(one["results"].size(), 6U);
  EXPECT_EQ(one["kinds"], nlohmann::json({"grocery", "pass_key"}));
  EXPECT_EQ(one["results"][0]["skipped"], nullptr);
  EXPECT_EQ(one["results"][1]["length"], 700);
  EXPECT_TRUE(one["results"][1]["skipped"].get<std::string>().starts_with("max_tokens = 256; a document"));
  const nlohmann::json& points = one["results"][5]["points"];
  ASSERT_EQ(points.size(), 4U);
  EXPECT_EQ(points[3]["depth"], 40);
  EXPECT_EQ(points[3]["kind"], "pass_key");
  EXPECT_EQ(points[3]["whole"]["asked"], 1);
  ASSERT_EQ(points[3]["answers"].size(), 1U);
  EXPECT_EQ(points[3]["whole"]["hits"] == 1, points[3]["answers"][0]["hidden"] == points[3]["answers"][0]["given"]);
  EXPECT_EQ(points[3]["retrieved_by_layer"].size(), 4U);
  EXPECT_EQ(one["results"][3]["points"][0]["retrieved_by_layer"], nullptr);
}

TEST(Recall, PoliciesThatRetrieveSingleKeys) {
  recall_options options = small();
  options.policies = {"lm_infinite_middle:sinks=4,window=124,count=64,at=124,first_layer=1,last_layer=2"};
  options.lengths = {400};
  options.kinds = {fact_kind::distinct_key};
  options.documents = 2;
  const recall_report report = run_recall(options);
  EXPECT_EQ(report.error, "");
  ASSERT_EQ(report.results.size(), 1U);
  EXPECT_TRUE(report.results[0].retrieves);
  const recall_point all = sum_of(report.results[0], "");
  EXPECT_EQ(all.held.hits, 0U);
  EXPECT_GE(all.whole.hits, 3U) << "of 4";
  EXPECT_EQ(all.layers[0].first.hits, 0U);
  EXPECT_EQ(all.layers[1].first.asked, 4U);
  EXPECT_EQ(all.layers[1].first.hits, 4U) << "the copying head finds the key that it copies";
  EXPECT_GE(all.layers[1].mean_rank(), 1);
  EXPECT_LE(all.layers[1].mean_rank(), 8) << "keys of a head are ranked by themselves";
}

TEST(Recall, PoliciesThatAreToldSurprisals) {
  recall_options options = small();
  options.policies = {"sir_llm:sinks=4,window=124,count=128"};
  options.documents = 1;
  const recall_report report = run_recall(options);
  EXPECT_EQ(report.error, "");
  ASSERT_EQ(report.results.size(), 2U);
  EXPECT_EQ(sum_of(report.results[0], "").held.hits, 4U);
  EXPECT_EQ(sum_of(report.results[1], "").whole.asked, 4U);
}

TEST(Recall, TableAndPlot) {
  const recall_report& report = small_report();
  const std::string table = kvkeep_eval::to_table(report);
  const auto has = [&](const std::string& part) { return table.find(part) != std::string::npos; };
  EXPECT_EQ(
      table.rfind("recall of grocery, distinct_key in gettysburg.txt: 3 documents of each length and depth, seed 0; "
                  "model model, trained on 256 tokens; steps of 512\n",
                  0),
      0U)
      << table;
  EXPECT_TRUE(
      has("dense:max_tokens=256: skipped at 700 tokens: max_tokens = 256; a document with its questions has up "
          "to 779\n"))
      << table;
  EXPECT_TRUE(has("0.0 [0.0, 39.0]")) << table;  // the window's, of 6
  EXPECT_TRUE(has("wrong answers  layer 0")) << table;
  const std::string script = kvkeep_eval::plot_script(report, kvkeep_eval::picture::svg);
  EXPECT_NE(script.find("$whole0_1 << EOD\n170 "), std::string::npos) << script;
  EXPECT_NE(script.find("\n700 0 0 39.0"), std::string::npos) << script;
  EXPECT_NE(script.find("set ylabel 'distinct_key: whole answers (%)' noenhanced"), std::string::npos) << script;
}

TEST(Recall, ReadsAsManyTokensAsTheModelWasTrainedOn) {
  const std::vector<std::string> specs = kvkeep_eval::recall_policies(256);
  EXPECT_EQ(specs[0], "dense:max_tokens=256");
  ASSERT_EQ(specs.size(), 8U);
  EXPECT_EQ(specs[5], "lm_infinite_middle:sinks=4,window=188,count=64,at=188,first_layer=0");
  EXPECT_EQ(specs[6], "inf_llm:sinks=4,window=128,block_size=8,count=16,representatives=8");
  for (const std::string& spec : specs) {
    EXPECT_TRUE(kvkeep::try_parse_policy(spec, {.max_tokens = 1000})) << spec;
  }
  for (const std::string& spec : kvkeep_eval::recall_policies(64)) {
    EXPECT_TRUE(kvkeep::try_parse_policy(spec, {.max_tokens = 1000})) << spec;
  }
}

TEST(Recall, AnInterruptedRunShowsWhatItHas) {
  std::size_t steps = 0;
  recall_options options = small();
  options.policies = {"sliding_window:window=256", retrieving};
  options.lengths = {170};
  const recall_report whole = run_recall(options, {.report = [&](const auto&) { ++steps; }, .stop = {}});
  const std::size_t all = steps;
  steps = 0;
  const recall_report report =
      run_recall(options, {.report = [&](const auto&) { ++steps; }, .stop = [&] { return steps >= all * 3 / 4; }});
  EXPECT_TRUE(report.interrupted);
  ASSERT_EQ(report.results.size(), 2U);
  EXPECT_EQ(sum_of(report.results[0], "").whole.hits, sum_of(whole.results[0], "").whole.hits);
  const std::size_t left = report.results[1].documents;
  EXPECT_GT(left, 0U);
  EXPECT_LT(left, 6U);
  EXPECT_EQ(sum_of(report.results[1], "").whole.asked, 2 * left) << "a document counts when it is done";
}

TEST(Recall, BadRequests) {
  const auto refused = [](const auto& change, const std::vector<std::string>& named) {
    recall_options options = small();
    change(options);
    expect_failure([&] { static_cast<void>(run_recall(options)); }, named);
  };
  refused([](recall_options& o) { o.lengths = {63}; }, {"lengths is 63; it must be from 64 to 1073741824"});
  refused([](recall_options& o) { o.lengths = {}; }, {"lengths are not given"});
  refused([](recall_options& o) { o.lengths = {200, 200}; }, {"lengths has the same value twice"});
  refused([](recall_options& o) { o.depths = {101}; }, {"depths is 101; it must be from 0 to 100"});
  refused([](recall_options& o) { o.documents = 0; }, {"documents is 0; it must be from 1 to 1048576"});
  refused([](recall_options& o) { o.chunk = 513; }, {"chunk is 513; it must be from 1 to 512"});
  refused([](recall_options& o) { o.threads = 0; }, {"threads is 0; it must be from 1 to 1024"});
  refused([](recall_options& o) { o.kinds = {}; }, {"kinds are not given"});
  refused([](recall_options& o) { o.text = "nowhere"; }, {"nowhere: no such file"});
  refused([](recall_options& o) { o.policies = {"nosuch"}; }, {"policy nosuch: unknown policy"});
  refused([](recall_options& o) { o.policies = {"recompute:window=9"}; },
          {"policy recompute:window=9: is no KV policy"});
  const temporary_directory directory;
  const auto file = directory.path() / "few.txt";
  write_file(file, "few words");
  refused([&](recall_options& o) { o.text = file; },
          {"few.txt: has 2 words without digits", "documents need 100 and 4"});
}

}  // namespace
}  // namespace kvkeep_eval_test
