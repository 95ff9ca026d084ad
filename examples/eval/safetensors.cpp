#include "safetensors.hpp"

#include "failure.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <ios>
#include <limits>
#include <optional>
#include <system_error>
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

// Widens `raw`, the elements as stored, into `out`.
template <class Stored>
void widen(const std::vector<char>& raw, matrix& out) {
  using stored_row = Eigen::Matrix<Stored, 1, Eigen::Dynamic>;
  // A byte buffer from the heap is aligned for any scalar type.
  const void* const first = raw.data();
  out.reshaped<Eigen::RowMajor>() =
      Eigen::Map<const stored_row>(static_cast<const Stored*>(first), out.size()).template cast<float>();
}

}  // namespace

safetensors::safetensors(const std::filesystem::path& path) : path_(path.string()) {
  std::error_code error;
  const std::uint64_t size = std::filesystem::file_size(path, error);
  file_.open(path, std::ios::binary);
  if (error || !file_) {
    throw failure(fmt::format("{}: {}", path_, error ? error.message() : "cannot be read"));
  }
  const auto truncated = [&](std::uint64_t needed) {
    return failure(fmt::format("{}: is truncated ({} bytes; its header asks for {})", path_, size, needed));
  };

  const auto malformed = [&] {
    return failure(fmt::format("{}: is not a safetensors file (its header is malformed)", path_));
  };
  const auto whole_number = [&](const nlohmann::json& value) {
    if (!value.is_number_unsigned()) {
      throw malformed();
    }
    return value.get<std::uint64_t>();
  };

  std::array<char, 8> prefix{};
  if (size < prefix.size() || !file_.read(prefix.data(), prefix.size())) {
    throw failure(fmt::format("{}: is truncated ({} bytes; a safetensors file has at least 8)", path_, size));
  }
  const auto length = std::bit_cast<std::uint64_t>(prefix);
  if (length > largest_header) {
    throw failure(fmt::format("{}: is not a safetensors file (a header of {} bytes)", path_, length));
  }
  const std::uint64_t start = prefix.size() + length;
  if (start > size) {
    throw truncated(start);
  }
  std::string text(length, '\0');
  file_.read(text.data(), static_cast<std::streamsize>(length));

  try {
    const nlohmann::json header = nlohmann::json::parse(text);
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
        throw failure(fmt::format("{}: tensor {} has offsets [{}, {}]", path_, name, first, last));
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
      throw failure(fmt::format("{}: tensors {} and {} overlap", path_, *tensors[i - 1].first, *tensors[i].first));
    }
  }
}

matrix safetensors::read(const std::string& name, const std::vector<std::size_t>& shape) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw failure(fmt::format("{}: has no tensor {}", path_, name));
  }
  entry& tensor = found->second;
  if (tensor.shape != shape) {
    throw failure(fmt::format("{}: tensor {} has shape [{}]; config.json asks for [{}]", path_, name,
                              fmt::join(tensor.shape, ", "), fmt::join(shape, ", ")));
  }
  const std::size_t element = element_size(tensor.dtype);
  if (element == 0) {
    throw failure(fmt::format("{}: tensor {} has type {}; supported are F32, F16 and BF16", path_, name, tensor.dtype));
  }
  const std::uint64_t bytes = tensor.last - tensor.first;
  if (byte_count(shape, element) != bytes) {
    throw failure(
        fmt::format("{}: tensor {} has {} bytes, which is not what its shape and type take", path_, name, bytes));
  }

  std::vector<char> raw(bytes);  // [elements * element]
  file_.seekg(static_cast<std::streamoff>(tensor.first));
  if (!file_.read(raw.data(), static_cast<std::streamsize>(bytes))) {
    throw failure(fmt::format("{}: tensor {} cannot be read", path_, name));
  }
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
