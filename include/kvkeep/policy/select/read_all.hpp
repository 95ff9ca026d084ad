// read_all: the select rule that reads all that is kept.
#ifndef KVKEEP_POLICY_SELECT_READ_ALL_HPP
#define KVKEEP_POLICY_SELECT_READ_ALL_HPP

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Every query reads every key that the retain rule leaves to it.
struct read_all {};

KVKEEP_NAMESPACE_END

#endif
