#include "run_watch.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <new>

namespace kvkeep_eval {

std::function<void(std::size_t)> run_watch::report() {
  return [this](std::size_t done) {
    at_.done = done;
    if (hooks_.report) {
      hooks_.report(at_);
    }
  };
}

std::function<bool()> run_watch::stop() {
  return [this] {
    interrupted_ = interrupted_ || (hooks_.stop && hooks_.stop());
    return interrupted_;
  };
}

std::string run_watch::attempt(const std::function<void()>& work) const {
  try {
    work();
  } catch (const failure& error) {
    return error.what();
  } catch (const std::bad_alloc&) {
    return fmt::format("policy {}: out of memory after {} {}", at_.spec, at_.done, at_.unit);
  }
  return {};
}

}  // namespace kvkeep_eval
