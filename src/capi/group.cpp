#include "tokenyard/group.hpp"

#include <limits>

#include "capi/handles.hpp"
#include "capi/structs.hpp"
#include "capi/values.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

namespace {

GroupOptions read_options(const ty_group_options* given) {
  GroupOptions options;
  if (given == nullptr) return options;
  const ty_group_options read = read_struct(given, "options");
  options.timeout = timeout_of(read.timeout_ms, "options->timeout_ms");
  options.waiting = enum_of(read.waiting, Waiting::kYield, "options->waiting");
  if (read.domain < -1 || read.domain > std::numeric_limits<int>::max()) {
    fail_argument("options->domain is {}: number domains from 0, or give -1", read.domain);
  }
  if (read.domain >= 0) options.domain = static_cast<int>(read.domain);
  if (read.device != nullptr) {
    const ty_device device = read_struct(read.device, "options->device");
    options.device = device.number;
    options.num_sms = device.num_sms;
    options.copy_engines = device.copy_engines != 0;
  }
  return options;
}

}  // namespace

ty_status ty_group_create(ty_exchange* exchange, const ty_group_options* options, ty_group** group) {
  return guarded_create(group, "group", [&] {
    return std::unique_ptr<ty_group>(
        new ty_group{Group::create(required(exchange, "exchange").exchange, read_options(options))});
  });
}

void ty_group_destroy(ty_group* group) { delete group; }

int32_t ty_group_rank(const ty_group* group) { return group == nullptr ? -1 : group->group.rank(); }
int32_t ty_group_num_ranks(const ty_group* group) { return group == nullptr ? -1 : group->group.num_ranks(); }
int32_t ty_group_num_domains(const ty_group* group) { return group == nullptr ? -1 : group->group.num_domains(); }
int32_t ty_group_domain_of(const ty_group* group, int32_t rank) { return group == nullptr ? -1 : group->group.domain_of(rank); }
int32_t ty_group_timeout_ms(const ty_group* group) {
  return group == nullptr ? -1 : static_cast<std::int32_t>(group->group.timeout().count());
}

int32_t ty_group_device(const ty_group* group) { return group == nullptr ? -1 : group->group.device().value_or(-1); }

ty_status ty_group_barrier(ty_group* group) {
  return guarded([&] { required(group, "group").group.barrier(); });
}

ty_status ty_group_get_failure(const ty_group* group, ty_failure* failure) {
  return guarded([&] {
    ty_failure written = TY_FAILURE_INIT;
    if (const std::optional<Failure> found = required(group, "group").group.status()) {
      written.code = status_of(found->code);
      written.phase = static_cast<ty_phase>(found->phase);
      written.culprit = found->culprit;
      written.reporter = found->reporter;
    }
    write_struct(written, failure, "failure");
  });
}

ty_status ty_group_recover(ty_group* group) {
  return guarded([&] { required(group, "group").group.recover(); });
}
