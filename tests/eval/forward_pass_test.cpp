// The forward pass of the bundled model against numbers from a second implementation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <kvkeep/kvkeep.hpp>

#include "checkpoint.hpp"
#include "expected.hpp"
#include "llama.hpp"
#include "loss.hpp"
#include "support.hpp"
#include "text.hpp"
#include "tokenizer.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::llama;
using kvkeep_eval::matrix;
using kvkeep_eval::token;

constexpr double tolerance = 1e-4;

const llama& model() {
  static const llama loaded = kvkeep_eval::checkpoint(bundled_model()).load(1);
  return loaded;
}

// Runs the model over one step of tokens; [tokens, hidden].
template <class Cache>
matrix run_step(Cache& cache, std::span<const token> tokens) {
  const auto& config = model().config();
  auto step = cache.begin(tokens.size());
  matrix states =
      model().hidden_states(tokens, [&](std::size_t layer, const auto& q, const auto& k, const auto& v, auto& out) {
        const auto rows = [&](const matrix& m, std::size_t heads) {
          return kvkeep::rows_view<const float>{m.data(), tokens.size(), heads, config.head_dim};
        };
        step.attend(layer, rows(q, config.query_heads), rows(k, config.kv_heads), rows(v, config.kv_heads),
                    kvkeep::rows_view<float>{out.data(), tokens.size(), config.query_heads, config.head_dim});
      });
  step.commit();
  return states;
}

// The logits after each token under `dense`, fed in steps of `chunk` tokens; [1, vocabulary] each.
std::vector<matrix> logits_of(std::span<const token> tokens, std::size_t chunk) {
  const auto& c = model().config();
  auto cache = kvkeep::make_cache(
      {.layers = c.layers, .query_heads = c.query_heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim},
      kvkeep::dense{.max_tokens = tokens.size()}, {.positions = c.positions, .max_step = chunk});
  std::vector<matrix> out;
  for (std::size_t first = 0; first < tokens.size(); first += chunk) {
    const std::size_t count = std::min(chunk, tokens.size() - first);
    const matrix states = run_step(cache, tokens.subspan(first, count));
    for (std::size_t i = 0; i < count; ++i) model().logits(states, i, 1, out.emplace_back());
  }
  return out;
}

void expect_logits(const matrix& logits, const expected_row& expected) {
  ASSERT_EQ(logits.cols(), kvkeep_eval::index(model().config().vocabulary));
  for (const auto& [id, logit] : expected.logits) {
    EXPECT_NEAR(logits(0, id), logit, tolerance) << "token " << id << " after position " << expected.position;
  }
  Eigen::Index largest = 0;
  logits.row(0).maxCoeff(&largest);
  EXPECT_EQ(largest, expected.most_likely);
  // The loss of a token is the log of the sum less its own logit.
  EXPECT_NEAR(kvkeep_eval::loss(logits, 0, 0) + static_cast<double>(logits(0, 0)), expected.log_sum_exp, tolerance);
}

void expect_all_logits(std::size_t chunk) {
  const expected_numbers expected = read_expected();
  const std::vector<matrix> logits = logits_of(expected.tokens, chunk);
  for (const expected_row& row : expected.rows) {
    ASSERT_LT(row.position, logits.size());
    ASSERT_EQ(row.logits.size(), 16U);
    expect_logits(logits[row.position], row);
  }
}

TEST(ForwardPass, LogitsInOneStep) { expect_all_logits(25); }
TEST(ForwardPass, LogitsInStepsOfSevenTokens) { expect_all_logits(7); }
TEST(ForwardPass, LogitsTokenByToken) { expect_all_logits(1); }

TEST(ForwardPass, LogitsOfSomeRowsAreThoseOfAll) {
  const expected_numbers expected = read_expected();
  matrix states(9, kvkeep_eval::index(model().config().hidden));
  for (Eigen::Index i = 0; i < states.size(); ++i) states(i) = std::sin(static_cast<float>(i));
  matrix all;
  matrix some;
  model().logits(states, 0, 9, all);
  model().logits(states, 4, 3, some);
  ASSERT_EQ(some.rows(), 3);
  for (Eigen::Index i = 0; i < 3; ++i) {
    for (const auto& [id, logit] : expected.rows[0].logits) EXPECT_NEAR(some(i, id), all(4 + i, id), tolerance);
  }
}

// A line that is not blank ends with the piece <0x0A>, whose id is 13; a blank one leaves nothing.
TEST(Tokenizer, GivesThePiecesOfEveryLine) {
  const kvkeep_eval::tokenizer pieces(bundled_model() / "tokenizer.model");
  const std::string text = kvkeep_eval::read_text(data_file("gettysburg.txt"));
  const expected_numbers expected = read_expected();

  EXPECT_EQ(pieces.vocabulary(), 2048U);
  ASSERT_EQ(pieces.begin_of_stream(), expected.tokens.front());
  const std::vector<token> stream = pieces.encode(text);
  ASSERT_GE(stream.size(), expected.tokens.size() - 1);
  EXPECT_TRUE(std::equal(expected.tokens.begin() + 1, expected.tokens.end(), stream.begin()));
  EXPECT_EQ(std::count(stream.begin(), stream.end(), 13), 4);
  EXPECT_EQ(stream.back(), 13);
  EXPECT_EQ(pieces.encode("this nation\n\n\nunder God"), pieces.encode("this nation\nunder God\n"));
}

}  // namespace
}  // namespace kvkeep_eval_test
