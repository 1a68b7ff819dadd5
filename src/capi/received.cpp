#include "capi/handles.hpp"
#include "capi/structs.hpp"
#include "capi/tensors.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

ty_status ty_received_get_lane(const ty_received* received, int32_t lane_idx, ty_tensor* lane) {
  return guarded([&] { write_tensor(required(received, "received").received.lane(lane_idx), lane, "lane"); });
}

ty_status ty_received_get_combine_buffer(const ty_received* received, ty_tensor* buffer) {
  return guarded([&] { write_tensor(required(received, "received").received.combine_buffer(), buffer, "buffer"); });
}

ty_status ty_received_get_sizes(const ty_received* received, ty_recv_sizes* sizes) {
  return guarded([&] {
    const RecvSizes& found = required(received, "received").received.sizes();
    ty_recv_sizes written = TY_RECV_SIZES_INIT;
    written.num_recv_rows = found.num_recv_rows;
    written.num_expanded_rows = found.num_expanded_rows;
    written.num_tensor_rows = found.num_tensor_rows;
    written.num_local_experts = found.num_local_experts;
    write_struct(written, sizes, "sizes");
  });
}

ty_status ty_received_get_routing(const ty_received* received, ty_routing** routing) {
  return guarded_create(routing, "routing",
                        [&] { return std::make_unique<ty_routing>(required(received, "received").received.routing()); });
}

int32_t ty_received_slot(const ty_received* received) { return received == nullptr ? -1 : received->received.slot(); }
bool ty_received_live(const ty_received* received) { return received != nullptr && received->received.live(); }

void ty_received_release(ty_received* received) {
  if (received != nullptr) received->received.release();
}

void ty_received_destroy(ty_received* received) { delete received; }
