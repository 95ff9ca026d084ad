#ifndef KVKEEP_GOOD
static_assert(2 == 3, "kvkeep: two is two");
#endif
