// expect: kvkeep: two is two
#ifndef KVKEEP_GOOD
static_assert(2 == 3, "kvkeep: three is two");
#endif
