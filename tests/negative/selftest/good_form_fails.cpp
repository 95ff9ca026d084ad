// expect: kvkeep: two is two
static_assert(2 == 3, "kvkeep: two is two");
