#include "exchange/slurm_hosts.hpp"

#include <gtest/gtest.h>

namespace tokenyard {
namespace {

struct Case {
  const char* list;
  const char* first;
  bool is_alone;
};

TEST(slurm_hosts, first_one_is_found) {
  for (const Case& each :
       {Case{"node1", "node1", true}, Case{"node1,node2", "node1", false}, Case{"n[01-04,07],big5", "n01", false},
        Case{"gpu[017]", "gpu017", true}, Case{"gpu[5-5]", "gpu5", true}, Case{"gpu[5,7]", "gpu5", false},
        Case{"r[1-2]n[3-4]", "r1n3", false}, Case{"r[1]n[3]-ib", "r1n3-ib", true},
        Case{"a.b-c_d.example.org", "a.b-c_d.example.org", true}, Case{"[10-12]", "10", false}}) {
    const auto hosts = parse_slurm_hosts(each.list);
    ASSERT_TRUE(hosts) << each.list;
    EXPECT_EQ(hosts->first, each.first) << each.list;
    EXPECT_EQ(hosts->is_alone, each.is_alone) << each.list;
  }
}

TEST(slurm_hosts, anything_else_is_refused) {
  for (const char* list : {"", ",", ",a", "a,", "a[", "a[]", "a[1", "a]", "a[1-]", "a[-1]", "a[1,]", "a[,1]", "a[1-2-3]",
                           "a[x]", "a b", "a[1 2]", "(null)", "a;rm", "a[[1]]"}) {
    EXPECT_FALSE(parse_slurm_hosts(list)) << list;
  }
}

}  // namespace
}  // namespace tokenyard
