#include "cli/doctor/cgroup.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace tokenyard::cli {
namespace {

// A system's files under a folder of their own.
class Cgroup : public testing::Test {
 protected:
  Cgroup() { std::filesystem::remove_all(root_); }
  ~Cgroup() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  const std::string root_ = testing::TempDir() + "cgroup_test";
};

TEST_F(Cgroup, no_group_and_no_limit_are_none) {
  EXPECT_FALSE(read_cgroup_limits(root_).num_cores);
  write("/proc/self/cgroup", "0::/job\n");
  write("/sys/fs/cgroup/job/cpu.max", "max 100000\n");
  write("/sys/fs/cgroup/job/memory.max", "max\n");
  EXPECT_FALSE(read_cgroup_limits(root_).num_cores);
  EXPECT_FALSE(read_cgroup_limits(root_).memory_bytes);
}

TEST_F(Cgroup, the_narrowest_limit_on_the_way_up_counts) {
  write("/proc/self/cgroup", "0::/slice/job\n");
  write("/sys/fs/cgroup/slice/job/cpu.max", "400000 100000\n");
  write("/sys/fs/cgroup/slice/cpu.max", "150000 100000\n");
  write("/sys/fs/cgroup/slice/cpu.stat", "nr_periods 40\nnr_throttled 17\n");
  write("/sys/fs/cgroup/slice/job/memory.max", "1000000\n");
  write("/sys/fs/cgroup/slice/job/memory.current", "400000\n");
  write("/sys/fs/cgroup/slice/memory.max", "2000000\n");
  const CgroupLimits limits = read_cgroup_limits(root_);
  EXPECT_EQ(limits.num_cores, 1.5);
  EXPECT_EQ(limits.cores_file, root_ + "/sys/fs/cgroup/slice/cpu.max");
  EXPECT_EQ(limits.num_throttled, 17);
  EXPECT_EQ(limits.memory_bytes, 1000000);
  EXPECT_EQ(limits.used_memory_bytes, 400000);
}

TEST_F(Cgroup, version_1_is_read_too) {
  write("/proc/self/cgroup", "5:cpuacct,cpu:/job\n4:memory:/job\n0::/\n");
  write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "250000\n");
  write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3000000\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const CgroupLimits limits = read_cgroup_limits(root_);
  EXPECT_EQ(limits.num_cores, 2.5);
  EXPECT_EQ(limits.memory_bytes, 3000000);
}

TEST_F(Cgroup, a_container_that_sees_only_its_own_folder_finds_the_limit_there) {
  write("/proc/self/cgroup", "0::/kubepods/pod7/c3\n");
  write("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(read_cgroup_limits(root_).num_cores, 2.0);
}

}  // namespace
}  // namespace tokenyard::cli
