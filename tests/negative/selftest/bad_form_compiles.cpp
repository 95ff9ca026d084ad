// expect: kvkeep: two is two
static_assert(2 == 2, "kvkeep: two is two");
