// A Mixture-of-Experts layer in C, once as prefill does it (throughput mode) and once as decode does it (latency mode, in
// halves, with the shared expert between them). Each rank checks its outputs against the same layer computed by itself.
//
//   moe_layer                  4 threads of this process; started by torchrun, mpirun or srun, this process is one of its ranks
//   moe_layer NUM_RANKS        so many threads
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tokenyard.h>

enum { HIDDEN = 64, NUM_EXPERTS = 8, TOP_K = 2, NUM_TOKENS = 24, MAX_RANKS = 16, TIMEOUT_MS = 20000 };

// Ends the program with what went wrong: a rank that goes missing is noticed by the others.
static void check(ty_status status, const char* what) {
  if (status == TY_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, ty_status_name(status), ty_last_error());
  exit(1);
}

// One rank's part of the layer: its tokens, and what the gate has chosen for them.
typedef struct {
  float tokens[NUM_TOKENS][HIDDEN];
  float shared[NUM_TOKENS][HIDDEN];  // the shared expert's outputs, added to the sums
  int64_t topk_idx[NUM_TOKENS][TOP_K];
  float topk_weights[NUM_TOKENS][TOP_K];
  float outputs[NUM_TOKENS][HIDDEN];
} layer_data;

static void make_tokens(layer_data* data, int32_t rank) {
  for (int token = 0; token < NUM_TOKENS; ++token) {
    for (int i = 0; i < HIDDEN; ++i) data->tokens[token][i] = sinf((float)(rank * 1000 + token * HIDDEN + i));
  }
}

static void choose_experts(layer_data* data) {
  static const int64_t seeds[4] = {7, 13, 29, 31};
  float logits[NUM_TOKENS][NUM_EXPERTS];
  for (int token = 0; token < NUM_TOKENS; ++token) {
    for (int expert = 0; expert < NUM_EXPERTS; ++expert) {
      logits[token][expert] = data->tokens[token][seeds[expert % 4]] * (float)(expert + 1);
    }
  }
  ty_router_options options = TY_ROUTER_OPTIONS_INIT;
  options.num_experts = NUM_EXPERTS;
  options.top_k = TOP_K;
  options.normalize = 1;
  ty_router* router = NULL;
  check(ty_router_create(&options, &router), "ty_router_create");
  const ty_tensor scores = ty_tensor_of_rows(logits, TY_FLOAT32, NUM_TOKENS, NUM_EXPERTS);
  const ty_tensor idx = ty_tensor_of_rows(data->topk_idx, TY_INT64, NUM_TOKENS, TOP_K);
  const ty_tensor weights = ty_tensor_of_rows(data->topk_weights, TY_FLOAT32, NUM_TOKENS, TOP_K);
  check(ty_router_route(router, &scores, &idx, &weights), "ty_router_route");
  ty_router_destroy(router);
}

// What takes the place of two matrix products here.
static float expert_output(int64_t expert, float value) { return value * (float)(expert + 1) + 0.25F; }
static float shared_expert_output(float value) { return 0.5F * value; }

static void run_shared_expert(layer_data* data) {
  for (int token = 0; token < NUM_TOKENS; ++token) {
    for (int i = 0; i < HIDDEN; ++i) data->shared[token][i] = shared_expert_output(data->tokens[token][i]);
  }
}

static void run_expert(int64_t expert, float* rows, int64_t num_rows) {
  for (int64_t i = 0; i < num_rows * HIDDEN; ++i) rows[i] = expert_output(expert, rows[i]);
}

static float largest_error(const layer_data* data) {
  float largest = 0.0F;
  for (int token = 0; token < NUM_TOKENS; ++token) {
    for (int i = 0; i < HIDDEN; ++i) {
      const float value = data->tokens[token][i];
      float sum = shared_expert_output(value);
      for (int k = 0; k < TOP_K; ++k) {
        sum += data->topk_weights[token][k] * expert_output(data->topk_idx[token][k], value);
      }
      largest = fmaxf(largest, fabsf(sum - data->outputs[token][i]));
    }
  }
  return largest;
}

static void report(const ty_group* group, const char* mode, const layer_data* data) {
  const float error = largest_error(data);
  printf("rank %d of %d: %s mode is %s (largest error %g)\n", (int)ty_group_rank(group), (int)ty_group_num_ranks(group), mode,
         error < 1e-5F ? "right" : "WRONG", (double)error);
  if (!(error < 1e-5F)) exit(1);
}

// The layer as Tokenyard sees it.
typedef struct {
  ty_group* group;
  ty_plan* plan;
  ty_tensor tokens, shared, topk_idx, topk_weights, outputs;
} moe_layer;

static moe_layer open_layer(ty_group* group, layer_data* data, ty_mode mode, ty_layout layout) {
  ty_lane lane = TY_LANE_INIT;
  lane.dtype = TY_FLOAT32;
  lane.num_elements = HIDDEN;
  ty_shape shape = TY_SHAPE_INIT;
  shape.num_experts = NUM_EXPERTS;
  shape.top_k = TOP_K;
  shape.max_tokens = NUM_TOKENS;
  shape.lanes = &lane;
  shape.num_lanes = 1;
  shape.mode = mode;
  shape.layout = layout;
  if (layout == TY_LAYOUT_EXPERT_PADDED) shape.expert_capacity = (int64_t)NUM_TOKENS * ty_group_num_ranks(group);

  moe_layer opened;
  opened.group = group;
  opened.plan = NULL;
  check(ty_plan_create(group, &shape, &opened.plan), "ty_plan_create");
  opened.tokens = ty_tensor_of_rows(data->tokens, TY_FLOAT32, NUM_TOKENS, HIDDEN);
  opened.shared = ty_tensor_of_rows(data->shared, TY_FLOAT32, NUM_TOKENS, HIDDEN);
  opened.topk_idx = ty_tensor_of_rows(data->topk_idx, TY_INT64, NUM_TOKENS, TOP_K);
  opened.topk_weights = ty_tensor_of_rows(data->topk_weights, TY_FLOAT32, NUM_TOKENS, TOP_K);
  opened.outputs = ty_tensor_of_rows(data->outputs, TY_FLOAT32, NUM_TOKENS, HIDDEN);
  memset(data->outputs, 0, sizeof(data->outputs));
  return opened;
}

static ty_dispatch_args dispatch_args(const moe_layer* layer) {
  ty_dispatch_args args = TY_DISPATCH_ARGS_INIT;
  args.lanes = &layer->tokens;
  args.num_lanes = 1;
  args.topk_idx = &layer->topk_idx;
  args.topk_weights = &layer->topk_weights;
  return args;
}

static ty_combine_args combine_args(const moe_layer* layer, const ty_routing* routing, const ty_tensor* rows) {
  ty_combine_args args = TY_COMBINE_ARGS_INIT;
  args.routing = routing;
  args.rows = rows;
  args.use_routing_weights = 1;
  args.biases = &layer->shared;
  args.num_biases = 1;
  args.output = &layer->outputs;
  return args;
}

static int64_t global_expert(const moe_layer* layer, int32_t local) {
  const int32_t num_ranks = ty_group_num_ranks(layer->group);
  return ty_group_rank(layer->group) * ((NUM_EXPERTS + num_ranks - 1) / num_ranks) + local;
}

// The caller's memory for the rows that a dispatch brings.
static ty_status allocate_rows(void* context, const ty_recv_sizes* sizes, ty_tensor* const* outputs, int32_t num_outputs) {
  const int64_t shape[2] = {sizes->num_tensor_rows, HIDDEN};
  void** rows = context;
  if (num_outputs != 1) return ty_set_error(TY_INTERNAL, "one lane was expected");
  *rows = malloc((size_t)(sizes->num_tensor_rows * HIDDEN) * sizeof(float) + 1);
  if (*rows == NULL) return ty_set_error(TY_OUT_OF_MEMORY, "no memory for the received rows");
  ty_tensor_set_dense(outputs[0], *rows, TY_FLOAT32, 2, shape);
  return TY_OK;
}

static void run_throughput_mode(ty_group* group, layer_data* data) {
  const moe_layer layer = open_layer(group, data, TY_MODE_THROUGHPUT, TY_LAYOUT_EXPERT_CONTIGUOUS);
  void* memory = NULL;
  ty_dispatch_args dispatch = dispatch_args(&layer);
  dispatch.allocate = allocate_rows;
  dispatch.allocate_context = &memory;
  ty_received* received = NULL;
  check(ty_plan_dispatch(layer.plan, &dispatch, &received), "ty_plan_dispatch");

  // The rows are grouped by this rank's experts, which write over their inputs.
  ty_routing* routing = NULL;
  ty_tensor rows = TY_TENSOR_INIT, offsets = TY_TENSOR_INIT;
  check(ty_received_get_routing(received, &routing), "ty_received_get_routing");
  check(ty_received_get_lane(received, 0, &rows), "ty_received_get_lane");
  check(ty_routing_expert_offsets(routing, &offsets), "ty_routing_expert_offsets");
  const int64_t* begin = offsets.data;
  for (int32_t local = 0; local < ty_plan_num_local_experts(layer.plan); ++local) {
    run_expert(global_expert(&layer, local), (float*)rows.data + begin[local] * HIDDEN, begin[local + 1] - begin[local]);
  }

  run_shared_expert(data);
  const ty_combine_args combine = combine_args(&layer, routing, &rows);
  check(ty_plan_combine(layer.plan, &combine), "ty_plan_combine");
  report(group, "throughput", data);

  ty_received_destroy(received);
  ty_routing_destroy(routing);
  ty_plan_destroy(layer.plan);
  free(memory);
}

static void run_latency_mode(ty_group* group, layer_data* data) {
  const moe_layer layer = open_layer(group, data, TY_MODE_LATENCY, TY_LAYOUT_EXPERT_PADDED);
  const ty_dispatch_args dispatch = dispatch_args(&layer);
  ty_pending* pending = NULL;
  check(ty_plan_begin_dispatch(layer.plan, &dispatch, &pending), "ty_plan_begin_dispatch");
  run_shared_expert(data);  // while tokens travel
  ty_received* received = NULL;
  check(ty_pending_complete_dispatch(pending, &received), "ty_pending_complete_dispatch");
  ty_pending_destroy(pending);

  // Each of this rank's experts has a block of expert_capacity rows, of which the first ones are used.
  ty_routing* routing = NULL;
  ty_tensor rows = TY_TENSOR_INIT, counts = TY_TENSOR_INIT;
  check(ty_received_get_routing(received, &routing), "ty_received_get_routing");
  check(ty_received_get_lane(received, 0, &rows), "ty_received_get_lane");
  check(ty_routing_expert_counts(routing, &counts), "ty_routing_expert_counts");
  const int64_t* num_rows = counts.data;
  for (int32_t local = 0; local < ty_plan_num_local_experts(layer.plan); ++local) {
    run_expert(global_expert(&layer, local), (float*)rows.data + local * rows.strides[0], num_rows[local]);
  }

  const ty_combine_args combine = combine_args(&layer, routing, &rows);
  check(ty_plan_begin_combine(layer.plan, &combine, &pending), "ty_plan_begin_combine");
  // Work of the next layer that needs no sums would stand here.
  check(ty_pending_complete_combine(pending), "ty_pending_complete_combine");
  ty_pending_destroy(pending);
  report(group, "latency", data);

  ty_received_destroy(received);
  ty_routing_destroy(routing);
  ty_plan_destroy(layer.plan);
}

static void* run_rank(void* context) {
  ty_exchange* exchange = context;
  ty_group_options options = TY_GROUP_OPTIONS_INIT;
  options.timeout_ms = TIMEOUT_MS;
  ty_group* group = NULL;
  check(ty_group_create(exchange, &options, &group), "ty_group_create");
  ty_exchange_destroy(exchange);  // the group keeps what it needs

  layer_data* data = malloc(sizeof(*data));
  if (data == NULL) check(ty_set_error(TY_OUT_OF_MEMORY, "no memory for the tokens"), "malloc");
  make_tokens(data, ty_group_rank(group));
  choose_experts(data);
  run_throughput_mode(group, data);
  run_latency_mode(group, data);
  free(data);

  check(ty_group_barrier(group), "ty_group_barrier");  // nobody leaves while others still wait for it
  ty_group_destroy(group);
  return NULL;
}

static void run_threads(int32_t num_ranks) {
  ty_exchange* exchanges[MAX_RANKS];
  pthread_t threads[MAX_RANKS];
  check(ty_exchange_create_threads(num_ranks, exchanges), "ty_exchange_create_threads");
  for (int32_t rank = 0; rank < num_ranks; ++rank) {
    if (pthread_create(&threads[rank], NULL, run_rank, exchanges[rank]) != 0) {
      check(ty_set_error(TY_SYSTEM, "no thread could be made"), "pthread_create");
    }
  }
  for (int32_t rank = 0; rank < num_ranks; ++rank) pthread_join(threads[rank], NULL);
}

static void run_process(void) {
  ty_tcp_rendezvous rendezvous = TY_TCP_RENDEZVOUS_INIT;
  ty_exchange* exchange = NULL;
  check(ty_tcp_rendezvous_from_environment(&rendezvous), "ty_tcp_rendezvous_from_environment");
  rendezvous.timeout_ms = TIMEOUT_MS;
  check(ty_exchange_create_tcp(&rendezvous, &exchange), "ty_exchange_create_tcp");
  run_rank(exchange);
}

int main(int argc, char** argv) {
  if (ty_abi_version() / 65536 != TY_ABI_MAJOR) {
    fprintf(stderr, "the library's ABI is %u, this program needs %d\n", (unsigned)(ty_abi_version() / 65536), TY_ABI_MAJOR);
    return 1;
  }
  const char* launcher = NULL;
  check(ty_launcher_from_environment(&launcher), "ty_launcher_from_environment");
  if (argc == 1 && *launcher != '\0') {
    run_process();
    return 0;
  }
  const int num_ranks = argc > 1 ? atoi(argv[1]) : 4;
  if (num_ranks < 1 || num_ranks > MAX_RANKS) {
    fprintf(stderr, "usage: moe_layer [NUM_RANKS], from 1 to %d ranks\n", MAX_RANKS);
    return 2;
  }
  run_threads(num_ranks);
  return 0;
}
