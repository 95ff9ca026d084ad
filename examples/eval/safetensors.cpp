#include "safetensors.hpp"

#include "failure.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

namespace kvkeep_eval {

namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little endian, and are read as they are");

constexpr std::uint64_t largest_header = 100'000'000;  // the format's own limit

std::size_t element_size(const std::string& dtype) noexcept {
  return dtype == "F32" ? sizeof(float) : dtype == "F16" || dtype == "BF16" ? 2U : 0U;
}

// The number of bytes of a tensor, or nothing if it does not fit 64 bits.
std::optional<std::uint64_t> byte_count(const std::vector<std::size_t>& shape, std::size_t element) noexcept {
  std::uint64_t bytes = element;
  for (const std::size_t extent : shape) {
    if (extent != 0 && bytes > std::numeric_limits<std::uint64_t>::max() / extent) {
      return std::nullopt;
    }
    bytes *= extent;
  }
  return bytes;
}

// Widens `raw`, the elements as stored and not aligned, into `out`, which has as many.
template <class Stored>
void widen(std::string_view raw, matrix& out) {
  Eigen::Matrix<Stored, 1, Eigen::Dynamic> row(out.cols());  // [columns]
  const std::size_t bytes = sizeof(Stored) * static_cast<std::size_t>(out.cols());
  for (Eigen::Index i = 0; i < out.rows(); ++i) {
    std::memcpy(row.data(), raw.data() + static_cast<std::size_t>(i) * bytes, bytes);
    out.row(i) = row.template cast<float>();
  }
}

}  // namespace

safetensors::safetensors(const std::filesystem::path& path) : file_(path) {
  const std::string_view bytes = file_.bytes();
  const std::uint64_t size = bytes.size();
  const auto truncated = [&](std::uint64_t needed) {
    return failure(fmt::format("{}: is truncated ({} bytes; its header asks for {})", file_.path(), size, needed));
  };

  const auto malformed = [&] {
    return failure(fmt::format("{}: is not a safetensors file (its header is malformed)", file_.path()));
  };
  const auto whole_number = [&](const nlohmann::json& value) {
    if (!value.is_number_unsigned()) {
      throw malformed();
    }
    return value.get<std::uint64_t>();
  };

  std::array<char, 8> prefix{};
  if (size < prefix.size()) {
    throw failure(fmt::format("{}: is truncated ({} bytes; a safetensors file has at least 8)", file_.path(), size));
  }
  std::memcpy(prefix.data(), bytes.data(), prefix.size());
  const auto length = std::bit_cast<std::uint64_t>(prefix);
  if (length > largest_header) {
    throw failure(fmt::format("{}: is not a safetensors file (a header of {} bytes)", file_.path(), length));
  }
  const std::uint64_t start = prefix.size() + length;
  if (start > size) {
    throw truncated(start);
  }
  try {
    const nlohmann::json header = nlohmann::json::parse(bytes.substr(prefix.size(), length));
    if (!header.is_object()) {
      throw malformed();
    }
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        continue;
      }
      const auto& offsets = value.at("data_offsets");
      const auto& extents = value.at("shape");
      if (!offsets.is_array() || offsets.size() != 2 || !extents.is_array()) {
        throw malformed();
      }
      const std::uint64_t first = whole_number(offsets.at(0));
      const std::uint64_t last = whole_number(offsets.at(1));
      if (first > last || last > std::numeric_limits<std::uint64_t>::max() - start) {
        throw failure(fmt::format("{}: tensor {} has offsets [{}, {}]", file_.path(), name, first, last));
      }
      if (start + last > size) {
        throw truncated(start + last);
      }
      std::vector<std::size_t> shape;
      for (const auto& extent : extents) {
        shape.push_back(whole_number(extent));
      }
      entries_[name] = {.dtype = value.at("dtype").get<std::string>(),
                        .shape = std::move(shape),
                        .first = start + first,
                        .last = start + last};
    }
  } catch (const nlohmann::json::exception&) {
    throw malformed();
  }
  refuse_overlaps();
}

void safetensors::refuse_overlaps() const {
  std::vector<std::pair<const std::string*, const entry*>> tensors;
  for (const auto& [name, tensor] : entries_) {
    if (tensor.first < tensor.last) {
      tensors.emplace_back(&name, &tensor);
    }
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.second->first < b.second->first; });
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i].second->first < tensors[i - 1].second->last) {
      throw failure(
          fmt::format("{}: tensors {} and {} overlap", file_.path(), *tensors[i - 1].first, *tensors[i].first));
    }
  }
}

matrix safetensors::read(const std::string& name, const std::vector<std::size_t>& shape) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw failure(fmt::format("{}: has no tensor {}", file_.path(), name));
  }
  entry& tensor = found->second;
  if (tensor.shape != shape) {
    throw failure(fmt::format("{}: tensor {} has shape [{}]; config.json asks for [{}]", file_.path(), name,
                              fmt::join(tensor.shape, ", "), fmt::join(shape, ", ")));
  }
  const std::size_t element = element_size(tensor.dtype);
  if (element == 0) {
    throw failure(
        fmt::format("{}: tensor {} has type {}; supported are F32, F16 and BF16", file_.path(), name, tensor.dtype));
  }
  const std::uint64_t bytes = tensor.last - tensor.first;
  if (byte_count(shape, element) != bytes) {
    throw failure(fmt::format("{}: tensor {} has {} bytes, which is not what its shape and type take", file_.path(),
                              name, bytes));
  }

  const std::string_view raw = file_.bytes().substr(tensor.first, bytes);         // [elements * element]
  matrix out(index(shape.size() == 1 ? 1 : shape.front()), index(shape.back()));  // [rows, columns]
  if (tensor.dtype == "F32") {
    widen<float>(raw, out);
  } else if (tensor.dtype == "F16") {
    widen<Eigen::half>(raw, out);
  } else {
    widen<Eigen::bfloat16>(raw, out);
  }
  tensor.was_read = true;
  return out;
}

std::vector<std::string> safetensors::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : entries_) {
    if (!tensor.was_read) {
      names.push_back(name);
    }
  }
  return names;
}

}  // namespace kvkeep_eval
