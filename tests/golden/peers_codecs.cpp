// Conversions to 16-bit floats and quantised blocks of another library, bit for bit: numbers are written as keys and values
// of every row of a block, exported, imported into another block and decoded.
//
// Rounding follows that library's reference routines; what its vector routines give instead is accepted by no row here.
// A scale that a half does not hold is infinite there; ours is the largest half, and quants are those of that scale.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <span>

#include "golden.hpp"

namespace golden {
namespace {

/// A number in hex, of exactly `digits` digits.
std::uint32_t hex(const std::string& text, std::size_t digits) {
  std::uint32_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  require(problem == std::errc() && end == text.data() + text.size() && text.size() == digits, "not {} hex digits: {}",
          digits, text);
  return value;
}

bool is_nan(std::uint32_t bits) { return (bits & 0x7FFFFFFFU) > 0x7F800000U; }

/// One row of a block, everything a codec does to it: as key and as value, at every place in the block.
struct row_outcome {
  std::vector<std::byte> bytes;   // exported
  std::vector<float> decoded;     // of what was imported
  std::vector<float> by_kernels;  // the same through keys() and values()
};

/// A block that nothing was written to.
template <class Codec>
std::vector<std::byte> new_block(std::size_t dim, unsigned fill) {
  return std::vector<std::byte>((std::max)(Codec::key_block_bytes(dim), Codec::value_block_bytes(dim)),
                                std::byte{static_cast<unsigned char>(fill)});
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

/// Decodes exported bytes. Keys and values, export of what was imported, and decoding one row or the block must agree.
template <class Codec>
row_outcome decode(const std::string& id, const std::vector<std::byte>& bytes, std::size_t dim, std::size_t row) {
  row_outcome out{bytes, std::vector<float>(dim), std::vector<float>(dim)};
  std::vector<float> other(dim);
  std::vector<float> scratch(dim * kvkeep::block_tokens);
  std::vector<std::byte> key = new_block<Codec>(dim, 0x5A);
  std::vector<std::byte> value = new_block<Codec>(dim, 0xA5);
  std::vector<std::byte> again(bytes.size());
  Codec::import_key(bytes.data(), key.data(), row, dim);
  Codec::import_value(bytes.data(), value.data(), row, dim);
  Codec::export_key(key.data(), row, dim, again.data());
  require(again == bytes, "{}: a key is exported otherwise than imported", id);
  Codec::export_value(value.data(), row, dim, again.data());
  require(again == bytes, "{}: a value is exported otherwise than imported", id);
  Codec::read_key(key.data(), row, out.decoded);
  Codec::read_value(value.data(), row, other);
  require(same_bits(out.decoded, other), "{}: a key is decoded otherwise than a value", id);
  const float* const keys = Codec::keys(key.data(), dim, scratch.data());
  for (std::size_t c = 0; c < dim; ++c) out.by_kernels[c] = keys[c * kvkeep::block_tokens + row];
  const float* const values = Codec::values(value.data(), dim, scratch.data());
  other.assign(values + row * dim, values + (row + 1) * dim);
  require(same_bits(out.by_kernels, other), "{}: kernels see a key otherwise than a value", id);
  return out;
}

template <class Codec>
row_outcome encode(const std::string& id, const std::vector<float>& in, std::size_t row) {
  const std::size_t dim = in.size();
  std::vector<std::byte> key = new_block<Codec>(dim, 0xFF);
  std::vector<std::byte> value = new_block<Codec>(dim, 0x00);
  std::vector<std::byte> bytes(Codec::row_bytes(dim));
  std::vector<std::byte> other(bytes.size());
  Codec::write_key(key.data(), row, in);
  Codec::write_value(value.data(), row, in);
  Codec::export_key(key.data(), row, dim, bytes.data());
  Codec::export_value(value.data(), row, dim, other.data());
  require(bytes == other, "{}: a key is encoded otherwise than a value", id);
  const row_outcome out = decode<Codec>(id, bytes, dim, row);
  std::vector<float> written(dim);
  Codec::read_key(key.data(), row, written);
  require(same_bits(written, out.decoded), "{}: what is imported is not what was written", id);
  return out;
}

/// The last component, the others being of no concern.
template <class Codec>
void check_float(const std::string& id, const row_outcome& out, std::uint32_t bits, std::uint32_t widened, bool nan,
                 tally& counted) {
  std::uint16_t ours = 0;
  std::copy(out.bytes.end() - 2, out.bytes.end(), reinterpret_cast<std::byte*>(&ours));
  const auto back = std::bit_cast<std::uint32_t>(out.decoded.back());
  const auto seen = std::bit_cast<std::uint32_t>(out.by_kernels.back());
  if (nan) {
    const std::uint32_t quiet = Codec::name == "f16" ? 0x7E00U : 0x7FC0U;
    require((ours & quiet) == quiet && (ours & 0x8000U) == (bits & 0x8000U),
            "{}: {} {:04x} is no quiet NaN of its sign", id, Codec::name, ours);
    require(is_nan(back) && is_nan(seen), "{}: {} does not come back as NaN", id, Codec::name);
    return;
  }
  counted.same(fmt::format("{}: {}", id, Codec::name), std::size_t{ours}, std::size_t{bits});
  counted.same(fmt::format("{}: {} as float", id, Codec::name), std::size_t{back}, std::size_t{widened});
  counted.same(fmt::format("{}: {} as kernels see it", id, Codec::name), std::size_t{seen}, std::size_t{widened});
}

template <class Codec>
void run_float(const std::string& id, const json& row, tally& counted) {
  const std::string name(Codec::name);
  const json& expect = field(row, "expect");
  for (std::size_t place = 0; place < kvkeep::block_tokens; ++place) {
    for (const std::size_t dim : {std::size_t{1}, std::size_t{16}, std::size_t{37}}) {
      if (has(row, "f32")) {
        const std::uint32_t bits = hex(text_field(row, "f32"), 8);
        const row_outcome out = encode<Codec>(id, std::vector<float>(dim, std::bit_cast<float>(bits)), place);
        check_float<Codec>(id, out, hex(text_field(expect, name.c_str()), 4),
                           hex(text_field(expect, (name + "_back_f32").c_str()), 8),
                           has(expect, "nan") && bool_field(expect, "nan"), counted);
      } else if (has(row, name.c_str())) {
        const std::uint32_t bits = hex(text_field(row, name.c_str()), 4);
        std::vector<std::byte> bytes;
        for (std::size_t c = 0; c < dim; ++c) {
          for (const std::uint32_t byte : {bits & 0xFFU, bits >> 8U}) bytes.push_back(static_cast<std::byte>(byte));
        }
        const std::uint32_t widened = hex(text_field(expect, "f32"), 8);
        check_float<Codec>(id, decode<Codec>(id, bytes, dim, place), bits, widened, is_nan(widened), counted);
      }
    }
  }
}

std::vector<std::byte> bytes_of(const std::string& text) {
  require(text.size() % 2 == 0, "an odd number of hex digits");
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < text.size(); i += 2) out.push_back(static_cast<std::byte>(hex(text.substr(i, 2), 2)));
  return out;
}

/// Our rule where a scale fits no half: the largest half; quants as far as they go.
template <class Codec>
void check_clamped(const std::string& id, const std::vector<float>& x, const row_outcome& out) {
  const float scale = kvkeep::from_f16_bits(static_cast<std::uint16_t>(std::to_integer<unsigned>(out.bytes[0]) |
                                                                       std::to_integer<unsigned>(out.bytes[1]) << 8U));
  require(std::abs(scale) == 65504.0F, "{}: the scale is {}, not the largest half", id, scale);
  const double least = Codec::bias == 8 ? -8.0 : -127.0;
  const double most = Codec::bias == 8 ? 7.0 : 127.0;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const double exact = std::clamp(static_cast<double>(x[c]) / static_cast<double>(scale), least, most);
    const double ours = static_cast<double>(out.decoded[c]) / static_cast<double>(scale);
    require(std::abs(ours - exact) <= 0.5 + 1e-6, "{}: {} became {}", id, x[c], out.decoded[c]);
  }
}

template <class Codec>
report run_blocks(const json& file) {
  tally counted;
  row_count rows;
  constexpr std::size_t group = 32;
  for (const json& row : list_field(file, "cases")) {
    const std::string id = text_field(row, "id");
    const json& expect = field(row, "expect");
    std::vector<float> x;
    for (const json& bits : list_field(row, "x_bits")) {
      x.push_back(std::bit_cast<float>(hex(bits.get<std::string>(), 8)));
    }
    require(x.size() == group && same_bits(x, floats(field(row, "x"), "x")), "{}: 32 numbers wanted", id);
    const bool overflows = (hex(text_field(expect, "scale_f16"), 4) & 0x7FFFU) == 0x7C00U;
    const std::vector<std::byte> block = bytes_of(text_field(expect, "block_hex"));
    for (std::size_t place = 0; place < kvkeep::block_tokens; ++place) {
      // The group of the table stands alone, and behind and before another.
      for (const std::size_t before : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
        std::vector<float> in(before == 0 ? group : 3 * group, 0.75F);
        std::copy(x.begin(), x.end(), in.begin() + static_cast<std::ptrdiff_t>(before * group));
        row_outcome out = encode<Codec>(id, in, place);
        const std::size_t bytes = Codec::row_bytes(group);
        const auto part = [&](auto& list, std::size_t length) {
          list.erase(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(before * length));
          list.resize(length);
        };
        part(out.bytes, bytes);
        part(out.decoded, group);
        part(out.by_kernels, group);
        require(same_bits(out.decoded, out.by_kernels), "{}: kernels see another row", id);
        if (overflows) {
          check_clamped<Codec>(id, x, out);
          continue;
        }
        for (std::size_t i = 0; i < bytes; ++i) {
          counted.same(fmt::format("{}: byte {}", id, i), std::to_integer<std::size_t>(out.bytes[i]),
                       std::to_integer<std::size_t>(block.at(i)));
        }
        require(same_bits(out.decoded, floats(field(expect, "dequantised"), "dequantised")), "{}: decoded otherwise",
                id);
      }
    }
    if (overflows) {
      rows.beside(id, "a scale beyond a half becomes infinite", "the largest half");
    } else {
      rows.compared();
    }
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

}  // namespace

report run_float16_conversions(const json& file) {
  tally counted;
  row_count rows;
  for (const json& row : list_field(file, "cases")) {
    const std::string id = text_field(row, "id");
    require(has(row, "f32") || has(row, "f16") || has(row, "bf16"), "{}: nothing to convert", id);
    run_float<kvkeep::f16>(id, row, counted);
    run_float<kvkeep::bf16>(id, row, counted);
    rows.compared();
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

report run_ggml_q8_0_blocks(const json& file) { return run_blocks<kvkeep::int8>(file); }
report run_ggml_q4_0_blocks(const json& file) { return run_blocks<kvkeep::int4>(file); }

}  // namespace golden
