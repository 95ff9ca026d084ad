// stream_model: what a policy should do, written the slow and obvious way: the oracle of the property tests.
//
// Knows nothing of planners, slots or kernels: lists of positions, and the reference kernel.
#ifndef KVKEEP_TESTS_SUPPORT_MODEL_HPP
#define KVKEEP_TESTS_SUPPORT_MODEL_HPP

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rows.hpp"

namespace kvkeep_test {

using kvkeep::position;
using positions = std::vector<position>;

/// The newest `count` of a list.
inline positions newest(const positions& list, std::size_t count) {
  return {list.end() - static_cast<std::ptrdiff_t>(std::min(count, list.size())), list.end()};
}

/// What rules with a column or a state may remember, as the slow model keeps it.
struct memory {
  std::map<position, float> told;  // a column by position: the surprisal, halved by every end_turn; none: not told yet
  position newest = -1;            // the newest token that states have seen
};

/// A policy in words.
struct words {
  enum class act { each_token, before_step, after_step } when = act::each_token;
  /// each_token: so many tokens of a step, from its first on, see what the first of them saw and those that came since.
  std::size_t together = 1;
  /// What is kept of a list of positions when the window gives `less` of its share.
  std::function<positions(const positions& list, std::size_t less)> keep;
  /// Whether the query at `query` reads the key at `key`, of those that are kept for it; none: it does.
  std::function<bool(position query, position key)> reads{};
  /// Distance of the key at `key` for the query at `query` that reads `newer` newer keys.
  std::function<position(position query, position key, position newer)> distance;
  std::size_t capacity = 0;
  /// Whether end_turn() halves what is remembered.
  bool fades = true;
  /// What `keep` may look at; set where a rule remembers.
  std::shared_ptr<memory> remembered{};
};

/// first_tokens: stream positions below it are sinks; window: newest tokens kept.
inline words sinks_and_window(position first_tokens, std::size_t sinks, std::size_t window) {
  words w;
  w.capacity = sinks + window;
  w.keep = [=](const positions& list, std::size_t less) {
    positions kept;
    positions rest;
    for (const position p : list) (p < first_tokens ? kept : rest).push_back(p);
    const positions recent = newest(rest, window - std::min(less, window));
    kept.insert(kept.end(), recent.begin(), recent.end());
    return kept;
  };
  w.distance = [](position, position, position newer) { return newer; };
  return w;
}

class stream_model {
 public:
  stream_model(kvkeep::model_shape shape, words policy, kvkeep::reference_options attention, position first = 0)
      : shape_(shape), policy_(std::move(policy)), attention_(std::move(attention)), first_(first) {
    clear();
  }

  /// Attention of a query [query_heads, head_dim] over keys and values [keys, kv_heads, head_dim] that stand at positions and
  /// seem at distances, where a cache stores them in codecs. None: the reference on the rows as they are.
  std::function<std::vector<double>(const std::vector<float>& q, const positions& at, const positions& distances,
                                    const std::vector<float>& k, const std::vector<float>& v)>
      attention_of_stored{};

  [[nodiscard]] const positions& held() const { return held_; }
  [[nodiscard]] position next() const { return next_; }

  /// Feeds n tokens in one step, of which `count` are kept; returns the outputs as attend_all does. A policy that remembers
  /// is told surprisal_of each of the tokens kept.
  std::vector<std::vector<double>> step(std::size_t n, std::size_t count, std::uint64_t salt) {
    std::vector<std::vector<double>> outputs(shape_.layers);
    seen(next_ - 1);
    positions after = held_;
    positions base = held_;
    if (policy_.when == words::act::before_step && held_.size() + n > policy_.capacity) base = policy_.keep(held_, n);
    if (policy_.when == words::act::before_step) {
      after = held_.size() + count > policy_.capacity ? policy_.keep(held_, count) : held_;
    }
    positions reading = base;
    for (std::size_t t = 0; t < n; ++t) {
      const position at = next_ + static_cast<position>(t);
      reading.push_back(at);
      if (policy_.when == words::act::each_token) {
        seen(at);
        if (t % policy_.together == 0) reading = policy_.keep(reading, 0);
      }
      for (std::size_t layer = 0; layer < shape_.layers; ++layer) attend(layer, at, reading, salt, outputs[layer]);
      if (t < count && policy_.when == words::act::each_token) after = reading;
      if (t < count && policy_.when != words::act::each_token) after.push_back(at);
    }
    seen(next_ + static_cast<position>(count) - 1);
    for (std::size_t t = 0; policy_.remembered != nullptr && t < count; ++t) {
      const position at = next_ + static_cast<position>(t);
      policy_.remembered->told[at] = surprisal_of(at, salt);
    }
    if (policy_.when == words::act::after_step) after = policy_.keep(after, 0);
    if (count > 0) held_ = after;
    for (std::size_t t = 0; t < count; ++t) salts_.push_back(salt);
    next_ += static_cast<position>(count);
    return outputs;
  }
  void reserve(std::size_t n) {
    if (!fits(n)) held_ = policy_.keep(held_, n);
  }
  void erase(position first, position last) {
    std::erase_if(held_, [&](position p) { return p >= first && p < last; });
  }
  void end_turn() {
    if (policy_.remembered == nullptr || !policy_.fades) return;
    for (auto& [at, value] : policy_.remembered->told) value /= 2;
  }
  void clear() {
    held_.clear();
    salts_.clear();
    next_ = first_;
    if (policy_.remembered != nullptr) policy_.remembered->told.clear();
    seen(first_ - 1);
  }

 private:
  /// Whether n more tokens find room without anybody leaving.
  [[nodiscard]] bool fits(std::size_t n) {
    if (held_.size() + n > policy_.capacity) return false;
    if (policy_.when != words::act::each_token) return true;
    positions all = held_;
    for (std::size_t t = 0; t < n; ++t) all.push_back(next_ + static_cast<position>(t));
    seen(next_ + static_cast<position>(n) - 1);
    const bool everybody = policy_.keep(all, 0).size() == all.size();
    seen(next_ - 1);
    return everybody;
  }
  void seen(position newest) {
    if (policy_.remembered != nullptr) policy_.remembered->newest = newest;
  }
  void attend(std::size_t layer, position at, positions reading, std::uint64_t salt, std::vector<double>& out) {
    if (policy_.reads) std::erase_if(reading, [&](position p) { return !policy_.reads(at, p); });
    const std::size_t dim = shape_.head_dim;
    const layer_rows query = rows_of(shape_, layer, at, 1, salt);
    std::vector<float> k;
    std::vector<float> v;
    for (const position p : reading) {
      const std::uint64_t its_salt = p < next_ ? salts_[static_cast<std::size_t>(p - first_)] : salt;
      const layer_rows row = rows_of(shape_, layer, p, 1, its_salt);
      k.insert(k.end(), row.k.begin(), row.k.end());
      v.insert(v.end(), row.v.begin(), row.v.end());
    }
    const std::size_t keys = reading.size();
    positions distances;
    for (std::size_t j = 0; j < keys; ++j) {
      distances.push_back(policy_.distance(at, reading[j], static_cast<position>(keys - 1 - j)));
    }
    if (attention_of_stored) {
      const std::vector<double> output = attention_of_stored(query.q, reading, distances, k, v);
      out.insert(out.end(), output.begin(), output.end());
      return;
    }
    const auto result =
        kvkeep::reference_attention(view(query.q, 1, shape_.query_heads, dim), view(k, keys, shape_.kv_heads, dim),
                                    view(v, keys, shape_.kv_heads, dim), attention_,
                                    [&](std::size_t, std::size_t j) { return std::optional(distances[j]); });
    out.insert(out.end(), result.output.begin(), result.output.end());
  }

  kvkeep::model_shape shape_;
  words policy_;
  kvkeep::reference_options attention_;
  position first_;
  position next_ = 0;
  positions held_;
  std::vector<std::uint64_t> salts_;  // by stream number: which rows the token had
};

}  // namespace kvkeep_test

#endif
