// A tokenizer.bin of llama2.c: its pieces, and what is refused.
#include "tokenizer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "made_model.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::token;
using kvkeep_eval::tokenizer;
using pieces = std::vector<token>;

// 259 " t", 260 "he", 261 " the", 262 " ", 263 "t", 264 "h", 265 "e", 266 "  ", 267 "é".
const std::vector<llama2c_piece> few{{" t", -0.0F}, {"he", -1}, {" the", -2}, {" ", -3},       {"t", -4},
                                     {"h", -5},     {"e", -6},  {"  ", -7},   {"\xc3\xa9", -8}};

tokenizer open(const std::string& bytes) {
  const temporary_directory directory;
  write_file(directory.path() / "any.name", bytes);
  return tokenizer(directory.path() / "any.name");
}

void expect_refused(const std::string& bytes, const std::vector<std::string>& named) {
  expect_failure([&] { static_cast<void>(open(bytes)); }, named);
}

TEST(Llama2cTokenizer, EncodesByScoresWithBytesWhereNoPieceFits) {
  const tokenizer opened = open(llama2c_tokenizer_bytes(llama2c_pieces(few)));
  EXPECT_EQ(opened.vocabulary(), 268U);
  EXPECT_EQ(opened.begin_of_stream(), 1);
  EXPECT_EQ(opened.end_of_stream(), 2);
  EXPECT_EQ(opened.encode(""), pieces{});
  EXPECT_EQ(opened.encode("the"), pieces{261});
  EXPECT_EQ(opened.encode(" the"), (pieces{262, 261}));
  EXPECT_EQ(opened.encode("t\xc3\xa9"), (pieces{259, 267}));
  EXPECT_EQ(opened.encode("  e"), (pieces{266, 262, 265}));  // the blank before the text, and two of its own
  EXPECT_EQ(opened.encode("\n"), (pieces{262, 13}));         // 3 + 0x0A
  EXPECT_EQ(opened.encode("\xe2\x82\xac"), (pieces{262, 3 + 0xe2, 3 + 0x82, 3 + 0xac}));
}

TEST(Llama2cTokenizer, DecodesWithoutTheFirstBlank) {
  const tokenizer opened = open(llama2c_tokenizer_bytes(llama2c_pieces(few)));
  EXPECT_EQ(opened.decode(pieces{}), "");
  EXPECT_EQ(opened.decode(pieces{261, 261}), "the the");
  EXPECT_EQ(opened.decode(pieces{1, 261, 13, 263, 2}), "the\nt");
  EXPECT_EQ(opened.decode(pieces{263, 3 + 0xe2, 3 + 0x82, 3 + 0xac}), "t\xe2\x82\xac");
  for (const std::string text : {"the hee\n\nt  \xc3\xa9", " t", "\xe2\x82\xac"}) {
    EXPECT_EQ(opened.decode(opened.encode(text)), text);
  }
  for (const token none : {-1, 268}) {
    expect_failure([&] { static_cast<void>(opened.decode(pieces{none})); },
                   {"piece " + std::to_string(none) + " is to be decoded; the tokenizer has 268"});
  }
}

TEST(Llama2cTokenizer, BrokenFiles) {
  const std::string whole = llama2c_tokenizer_bytes(llama2c_pieces(few));
  const std::string what = "any.name: is not a llama2.c tokenizer";
  expect_refused(whole.substr(0, whole.size() - 1), {what, "it ends within piece 267"});
  expect_refused(whole.substr(0, 29), {what, "it ends within piece 1"});
  expect_refused(whole + "x", {what, "it ends within piece 268"});
  expect_refused(std::string(whole).replace(0, 4, bytes_of_number(std::int32_t{4})),
                 {what, "piece 0 has 5 bytes; the longest is said to have 4"});
  const std::size_t second = 4 + 8 + 5;  // the length of <s> stands 4 bytes on
  for (const std::int32_t length : {0, -1, std::numeric_limits<std::int32_t>::min()}) {
    expect_refused(std::string(whole).replace(second + 4, 4, bytes_of_number(length)),
                   {what, "piece 1 has length " + std::to_string(length)});
  }
  expect_refused(std::string(whole).replace(second + 4, 4, bytes_of_number(std::numeric_limits<std::int32_t>::max())),
                 {what, "it ends within piece 1"});
  expect_refused(std::string(whole).replace(second, 4, bytes_of_number(std::numeric_limits<float>::quiet_NaN())),
                 {what, "piece 1 has length 5 and score nan"});

  auto pieces_of_file = llama2c_pieces(few);
  pieces_of_file[20].text = "<0x12>";
  expect_refused(llama2c_tokenizer_bytes(pieces_of_file), {what, "piece 20 is not <0x11>"});
  pieces_of_file = llama2c_pieces({});
  pieces_of_file.pop_back();
  expect_refused(llama2c_tokenizer_bytes(pieces_of_file), {what, "258 pieces, less than the 259"});
  expect_refused(llama2c_tokenizer_bytes(llama2c_pieces({{"a", 0}, {"a", -1}})), {what, "two pieces are alike"});
}

TEST(Tokenizer, APromptsLastLineStaysOpen) {
  const tokenizer bundled(bundled_model() / "tokenizer.model");
  const pieces closed = bundled.encode("one\ntwo");
  ASSERT_EQ(closed.back(), 13);
  EXPECT_EQ(bundled.encode_prompt("one\ntwo"), pieces(closed.begin(), closed.end() - 1));
  EXPECT_EQ(bundled.encode_prompt("one\ntwo\n"), closed);
  EXPECT_EQ(bundled.encode_prompt(""), pieces{});
  EXPECT_EQ(bundled.end_of_stream(), 2);
  EXPECT_EQ(bundled.decode(bundled.encode_prompt("one\ntwo")), "one\n two");  // each line has a blank before it
}

}  // namespace
}  // namespace kvkeep_eval_test
