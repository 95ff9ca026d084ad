#ifndef KVKEEP_EVAL_FAILURE_HPP
#define KVKEEP_EVAL_FAILURE_HPP

#include <stdexcept>

namespace kvkeep_eval {

// What went wrong, as one line for the user: every error the program reports on purpose. main() prints it and exits
// with 1.
class failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_FAILURE_HPP
