// Tokenyard in C: expert-parallel dispatch and combine for Mixture-of-Experts layers. C99 or newer, or C++.
//
// The nouns and verbs are those of the C++ interface (include/tokenyard/*.hpp), which explains them at length; this header
// states what a caller in C must know besides. docs/abi.md says what may change between versions.
//
// Handles. A handle (ty_group *, ty_plan *, ...) is one reference to an object. The function that makes it writes it through
// its last parameter, or NULL where it fails; ty_X_destroy gives it back, accepts NULL, and never waits for another rank. Order
// does not matter: what a handle's object needs stays alive as long as that object, whatever else has been destroyed. A handle
// must not be destroyed while another thread uses it, nor used after it was destroyed. Where a function takes a handle, NULL is
// TY_INVALID_ARGUMENT; accessors that return a value give -1, 0, false or NULL for it.
//
// Structs. Every struct starts with struct_size, and has an initialiser that sets it and the defaults:
//     ty_shape shape = TY_SHAPE_INIT;
// Structs that the caller fills may be smaller than the library's (the caller is older: missing fields have their defaults) or
// larger (the caller is newer: TY_INVALID_ARGUMENT if a field that the library does not know is not zero). Of structs that
// the library fills it writes what fits, and zeroes what it does not know. The elements of an array all have the struct_size of
// the first. A NULL pointer to an optional struct stands for "not given". Fields of yes or no are 0 or 1.
//
// Status. Functions that can fail return a ty_status. Whatever else is said below, each of them may return
// TY_INVALID_ARGUMENT (a pointer that must not be NULL, a value out of range: nothing was sent), TY_OUT_OF_MEMORY and
// TY_INTERNAL. No C++ exception ever leaves the library; a thread must not be cancelled (pthread_cancel) inside of a call, and
// a callback must return: neither longjmp nor an exception may leave it.
//
// "Collective" functions must be called by all ranks, in the same order. "Blocking" ones wait for other ranks, each of their
// waits at most as long as they say; all others are local and return at once. Where a timeout of the group counts, finding out
// who keeps whom waiting may take some seconds more. Timeouts are in milliseconds and below 2^31; above 20 days they are 20
// days.
//
// Threads. Where nothing is said, one thread at a time may use a handle, and different threads may use different handles at
// once. Functions without a handle may be called by any number of threads.
//
// GPUs. Where a group lies on GPUs (ty_group_options.device), "blocking" functions of plans enqueue in a stream and return,
// with exceptions that they name; tensors are memory of the GPU. A stream is a cudaStream_t, an event a cudaEvent_t, passed as
// void*, so that no header of CUDA is needed; NULL is the default stream, and no event. docs/gpu.md says the rest.
#ifndef TOKENYARD_H
#define TOKENYARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The interface that this header describes. Within a major version all changes are additions, which raise the minor one.
#define TY_ABI_MAJOR 0
#define TY_ABI_MINOR 3
#define TY_ABI_VERSION (TY_ABI_MAJOR * 65536 + TY_ABI_MINOR)

#if defined(__GNUC__)
#define TY_API __attribute__((visibility("default")))
#else
#define TY_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

// --- Versions ---

// TY_ABI_VERSION of the library that runs. It serves a program that was compiled with the same major version; a function that
// the header of a newer minor version added is missing from it.
TY_API uint32_t ty_abi_version(void);

// "0.1.0"
TY_API const char* ty_version(void);

// Ranks must agree on this number.
TY_API uint32_t ty_wire_version(void);

// --- Errors ---

typedef int32_t ty_status;
enum {
  TY_OK = 0,
  TY_INVALID_ARGUMENT = 1,  // the caller's input is wrong; nothing was sent
  TY_STALE = 2,             // a handle outlived what it described
  TY_DISAGREEMENT = 3,      // ranks made different calls, or described different shapes
  TY_TIMEOUT = 4,           // a deadline passed
  TY_PEER_LOST = 5,         // a peer died, or left the group
  TY_UNSUPPORTED = 6,       // this build or this host cannot do it
  TY_SYSTEM = 7,            // the operating system refused; the text carries its reason
  TY_OUT_OF_MEMORY = 8,     // this process has no memory left
  TY_INTERNAL = 9           // a defect of Tokenyard: please report it with the text
};

// The step of a call in which a rank waited.
typedef int32_t ty_phase;
enum {
  TY_PHASE_NONE = 0,
  TY_PHASE_RENDEZVOUS = 1,
  TY_PHASE_MAPPING = 2,
  TY_PHASE_DISPATCH_FREE = 3,
  TY_PHASE_DISPATCH_COUNTS = 4,
  TY_PHASE_DISPATCH_ROWS = 5,
  TY_PHASE_COMBINE_FREE = 6,
  TY_PHASE_COMBINE_WEIGHTS = 7,
  TY_PHASE_COMBINE_ROWS = 8,
  TY_PHASE_COMBINE_READ = 9,
  TY_PHASE_WINDOW_WAIT = 10,
  TY_PHASE_BARRIER = 11
};

// Who and where, for failures that concern several ranks.
typedef struct ty_failure {
  size_t struct_size;
  ty_status code;
  ty_phase phase;
  int32_t culprit;   // the rank that was waited for, or -1
  int32_t reporter;  // the rank that noticed first, or -1
} ty_failure;
#define TY_FAILURE_INIT {sizeof(ty_failure), TY_OK, TY_PHASE_NONE, -1, -1}

// The text of the last call of this thread that failed, empty before any did. Valid until this thread's next call that fails.
TY_API const char* ty_last_error(void);

// That failure's fields.
TY_API ty_status ty_get_last_failure(ty_failure* failure);

// For callbacks: keeps `text` (copied; may be NULL) as this thread's error and returns `status`, so that a callback can end
// with `return ty_set_error(TY_SYSTEM, "the disk is full")` and its reason comes out of the call that called it.
TY_API ty_status ty_set_error(ty_status status, const char* text);

// "timeout", "dispatch/counts"; never NULL.
TY_API const char* ty_status_name(ty_status status);
TY_API const char* ty_phase_name(ty_phase phase);

// --- Log ---

typedef int32_t ty_log_level;
enum { TY_LOG_DEBUG = 0, TY_LOG_INFO = 1, TY_LOG_WARNING = 2, TY_LOG_ERROR = 3, TY_LOG_OFF = 4 };

// `text` is one line without its end, valid during the call. Several threads may call at once. It must not call Tokenyard.
typedef void (*ty_log_function)(void* context, ty_log_level level, const char* text);

// Where the whole process's lines go from now on; NULL: to standard error, as at first. Returns when the function set before is
// not running any more.
TY_API ty_status ty_set_log_function(ty_log_function function, void* context);

// The least level that is written. At first it is that of the variable TOKENYARD_LOG, or TY_LOG_INFO.
TY_API ty_status ty_set_log_level(ty_log_level level);

// --- Trace ---

// Writes the timeline of all groups of this process until ty_stop_trace or the end of the process; TOKENYARD_TRACE=FILE does
// the same. In `file` %r stands for the lowest rank of this process, %p for its process id; include/tokenyard/trace.hpp says
// more. Local. TY_INVALID_ARGUMENT while a trace is being written already, TY_SYSTEM where the file cannot be written.
TY_API ty_status ty_start_trace(const char* file);

// Writes what is left and closes the file; without a trace it does nothing. To be called before the library is closed
// (dlclose).
TY_API ty_status ty_stop_trace(void);

// --- Tensors ---

enum {
  TY_MAX_DIMS = 4,
  TY_SCALE_BLOCK = 128  // values that share a scale; the last block of a row may be shorter
};

typedef int32_t ty_data_type;
enum {
  TY_BYTE = 0,         // opaque: moved, never computed with
  TY_FLOAT8_E4M3 = 1,  // 1-4-3, no infinities, NaN is 0x7f (the "fn" variant)
  TY_UE8M0 = 2,        // a power of two as its biased exponent: 2^(byte - 127); 255 is NaN
  TY_FLOAT16 = 3,
  TY_BFLOAT16 = 4,
  TY_FLOAT32 = 5,
  TY_FLOAT64 = 6,
  TY_INT32 = 7,
  TY_INT64 = 8
};

// Bytes per element, 0 for what is no ty_data_type; "bfloat16" and the like, never NULL.
TY_API size_t ty_data_type_size(ty_data_type dtype);
TY_API const char* ty_data_type_name(ty_data_type dtype);

// A tensor that belongs to somebody else. Strides count elements, not bytes, and may be anything, negative included. No
// dimensions: not given. The library does not write to tensors that are inputs, and the caller may not write to those that a
// ty_routing gives.
typedef struct ty_tensor {
  size_t struct_size;
  void* data;
  ty_data_type dtype;
  int32_t num_dims;
  int64_t shape[TY_MAX_DIMS];
  int64_t strides[TY_MAX_DIMS];
} ty_tensor;
#define TY_TENSOR_INIT {sizeof(ty_tensor), NULL, TY_BYTE, 0, {0, 0, 0, 0}, {0, 0, 0, 0}}

// Describes dense, row-major memory: `tensor` keeps its struct_size, so this also serves an allocation callback.
static inline void ty_tensor_set_dense(ty_tensor* tensor, void* data, ty_data_type dtype, int32_t num_dims,
                                       const int64_t* shape) {
  int64_t stride = 1;
  tensor->data = data;
  tensor->dtype = dtype;
  tensor->num_dims = num_dims;
  for (int32_t dim = num_dims - 1; dim >= 0; --dim) {
    tensor->shape[dim] = shape[dim];
    tensor->strides[dim] = stride;
    stride *= shape[dim];
  }
}

// A dense matrix of num_rows rows.
static inline ty_tensor ty_tensor_of_rows(void* data, ty_data_type dtype, int64_t num_rows, int64_t num_elements) {
  ty_tensor tensor = TY_TENSOR_INIT;
  const int64_t shape[2] = {num_rows, num_elements};
  ty_tensor_set_dense(&tensor, data, dtype, 2, shape);
  return tensor;
}

// --- Exchange: how ranks find each other ---

// Carries a few bytes per rank, never payload. One that has failed by TY_TIMEOUT or TY_PEER_LOST is over: all
// later calls of all its ranks fail likewise.
typedef struct ty_exchange ty_exchange;

// Ranks are threads of this process: writes num_ranks handles (none where it fails), of which element i belongs to rank i and
// may be handed to any thread. Local.
TY_API ty_status ty_exchange_create_threads(int32_t num_ranks, ty_exchange** exchanges);

// Ranks are processes that meet at rank 0's TCP port, with a shared secret unless they meet on loopback (docs/rendezvous.md).
typedef struct ty_tcp_rendezvous {
  size_t struct_size;
  const char* address;  // of rank 0: host name, IPv4 or IPv6 address
  const char* secret;   // equal on all ranks, 16 to 4,096 bytes; NULL or empty: none
  int32_t port;         // of rank 0; unused by a rank 0 that has listen_fd
  int32_t rank;
  int32_t num_ranks;
  int32_t local_rank;  // among the ranks of this host
  int32_t timeout_ms;  // for all ranks to arrive
  int32_t listen_fd;   // rank 0: an already listening socket, which is taken over; -1: none
} ty_tcp_rendezvous;
#define TY_TCP_RENDEZVOUS_INIT {sizeof(ty_tcp_rendezvous), "127.0.0.1", NULL, 29500, 0, 1, 0, 60000, -1}

// What torchrun, OpenMPI or Slurm has told this process by variables, secret included. Local. The strings stay valid until this
// thread's next call of this function. TY_INVALID_ARGUMENT names a variable that is missing, malformed or contradicted.
TY_API ty_status ty_tcp_rendezvous_from_environment(ty_tcp_rendezvous* rendezvous);

// "torchrun", "OpenMPI" or "Slurm": whose variables that would read, or "" if there are none. Local. Valid until this thread's
// next call of this function.
TY_API ty_status ty_launcher_from_environment(const char** launcher);

// The part of it that concerns the secret: that of TOKENYARD_SECRET or TOKENYARD_SECRET_FILE, or "". Valid until this thread's
// next call of this function.
TY_API ty_status ty_secret_from_environment(const char** secret);

// Collective; blocking for rendezvous->timeout_ms. TY_TIMEOUT names the missing ranks; TY_DISAGREEMENT a duplicate rank,
// another number of ranks, another version or another secret; TY_INVALID_ARGUMENT an address beyond loopback without a secret;
// TY_SYSTEM.
TY_API ty_status ty_exchange_create_tcp(const ty_tcp_rendezvous* rendezvous, ty_exchange** exchange);

// Ranks are processes of one user that share the directory `path`, where they meet in `path`/tokenyard-`job`. Collective;
// blocking for timeout_ms. Errors as for TCP.
TY_API ty_status ty_exchange_create_directory(const char* path, int32_t rank, int32_t num_ranks, const char* job,
                                              int32_t timeout_ms, ty_exchange** exchange);

// The bootstrap callback: gathers one block of block_bytes per rank into `blocks`, which has room for num_ranks of them, in
// rank order. Called by the thread that called Tokenyard, on all ranks in the same order; block_bytes is equal on all of them.
// It should return within timeout_ms, since nobody can end it. Any status but TY_OK ends the Exchange on this rank and becomes
// that of the call, with the text of ty_set_error; the codes from TY_OUT_OF_MEMORY on, and what is no status, become TY_SYSTEM.
typedef ty_status (*ty_gather_function)(void* context, const void* block, size_t block_bytes, void* blocks, int32_t timeout_ms);

// Ranks that can gather already, by MPI or torch.distributed. Local. `context` must stay valid until the Exchange, and all
// groups made from it and what they made, have been destroyed.
TY_API ty_status ty_exchange_create_callback(int32_t rank, int32_t num_ranks, ty_gather_function gather, void* context,
                                             ty_exchange** exchange);

TY_API int32_t ty_exchange_rank(const ty_exchange* exchange);
TY_API int32_t ty_exchange_num_ranks(const ty_exchange* exchange);

// Collective; blocking for timeout_ms. Gathers block_bytes (at most 1 MiB, equal on all ranks: TY_DISAGREEMENT otherwise) per
// rank into `blocks`, in rank order. TY_TIMEOUT names the missing ranks, TY_PEER_LOST one that has gone. Not while a group that
// was made from the Exchange is in a collective call of its own.
TY_API ty_status ty_exchange_all_gather(ty_exchange* exchange, const void* block, size_t block_bytes, void* blocks,
                                        int32_t timeout_ms);

// Collective; blocking for timeout_ms: returns once every rank has called it. Errors as for ty_exchange_all_gather.
TY_API ty_status ty_exchange_barrier(ty_exchange* exchange, int32_t timeout_ms);

TY_API void ty_exchange_destroy(ty_exchange* exchange);

// --- Group: the ranks that work together ---

typedef int32_t ty_waiting;
enum {
  TY_WAITING_AUTO = 0,  // spin while this host has a core for each of its ranks, else yield
  TY_WAITING_SPIN = 1,
  TY_WAITING_YIELD = 2
};

// ty_device.number: the rank's number on its host, as the launcher says.
enum { TY_LOCAL_DEVICE = -1 };

// The GPU on which a rank keeps its windows.
typedef struct ty_device {
  size_t struct_size;
  int32_t number;   // among the GPUs that this process sees, or TY_LOCAL_DEVICE
  int32_t num_sms;  // that a call may occupy unless it says otherwise; 0: 16, or fewer where many ranks share the GPU
  // Not 0, on all ranks or none: plans with TY_OVERFLOW_GROW hold memory without which their calls cannot ask for
  // TY_COPIES_ENGINE. Since ABI 0.3
  int64_t copy_engines;
} ty_device;
#define TY_DEVICE_INIT {sizeof(ty_device), TY_LOCAL_DEVICE, 0, 0}

typedef struct ty_group_options {
  size_t struct_size;
  int64_t domain;      // ranks with equal numbers that can map each other's memory form a domain; -1: all ranks of a host do
  int32_t timeout_ms;  // of every wait, unless a call gives its own
  ty_waiting waiting;
  const ty_device* device;  // on all ranks or none; NULL: windows lie in host memory. Since ABI 0.2
} ty_group_options;
#define TY_GROUP_OPTIONS_INIT {sizeof(ty_group_options), -1, 30000, TY_WAITING_AUTO, NULL}

typedef struct ty_group ty_group;

// Where a call has a timeout of its own, this stands for the group's.
enum { TY_GROUP_TIMEOUT = -1 };

// Collective; blocking for options->timeout_ms. `options` may be NULL. The group keeps the Exchange alive. TY_TIMEOUT,
// TY_PEER_LOST, TY_DISAGREEMENT, TY_SYSTEM. With a device: TY_INVALID_ARGUMENT for a GPU that is not there, TY_UNSUPPORTED
// without a driver, without a GPU, or in a build without CUDA.
TY_API ty_status ty_group_create(ty_exchange* exchange, const ty_group_options* options, ty_group** group);

// Peers that still wait for this rank then learn that it has left.
TY_API void ty_group_destroy(ty_group* group);

// Any thread. ty_group_domain_of: numbered from 0 in the order of their first ranks; -1: no such rank.
TY_API int32_t ty_group_rank(const ty_group* group);
TY_API int32_t ty_group_num_ranks(const ty_group* group);
TY_API int32_t ty_group_num_domains(const ty_group* group);
TY_API int32_t ty_group_domain_of(const ty_group* group, int32_t rank);
TY_API int32_t ty_group_timeout_ms(const ty_group* group);
TY_API int32_t ty_group_device(const ty_group* group);  // a number among the GPUs that this process sees; -1: none

// Collective; blocking for the group's timeout. TY_TIMEOUT, TY_PEER_LOST, TY_DISAGREEMENT where ranks made different calls.
TY_API ty_status ty_group_barrier(ty_group* group);

// The first failure of the group since it was made or recovered, without waiting for anything; its code is TY_OK where there is
// none. Any thread. Kernels report failures, too, and a stream goes on after a wait that has failed: look here once its work is
// over.
TY_API ty_status ty_group_get_failure(const ty_group* group, ty_failure* failure);

// Collective; blocking for the group's timeout, within which all ranks must call it: every rank has seen the failure and goes
// on. Live results and Routings made before become stale. With a dead rank it fails: make a new group of the survivors then.
TY_API ty_status ty_group_recover(ty_group* group);

// --- Window: a partitioned global address space ---

typedef int32_t ty_compare;
enum { TY_COMPARE_EQUAL = 0, TY_COMPARE_NOT_EQUAL = 1, TY_COMPARE_GREATER_EQUAL = 2 };

// Offsets and lengths are bytes; signals are 8-byte words at multiples of 8. Any number of threads may use a window. Everything
// but making it is local, and only ty_window_wait blocks. Errors: TY_INVALID_ARGUMENT for a rank, offset or length outside of
// the window, TY_UNSUPPORTED for a peer that cannot be reached. docs/memory-model.md says what orders what.
typedef struct ty_window ty_window;

// Collective; blocking for the group's timeout. num_bytes must be equal on all ranks (TY_DISAGREEMENT otherwise). TY_TIMEOUT,
// TY_PEER_LOST, TY_SYSTEM. One thread at a time makes windows and plans of a group.
TY_API ty_status ty_window_create(ty_group* group, size_t num_bytes, ty_window** window);

// The region stays mapped until the last handle on every rank is gone.
TY_API void ty_window_destroy(ty_window* window);

TY_API void* ty_window_local(const ty_window* window);  // this rank's region, 4096-byte aligned, zero at first; maybe on a GPU
TY_API size_t ty_window_num_bytes(const ty_window* window);
TY_API int32_t ty_window_rank(const ty_window* window);
TY_API int32_t ty_window_num_ranks(const ty_window* window);

// The peer's region mapped into this process, or NULL where only put and get reach it, and for no such rank.
TY_API void* ty_window_mapped(const ty_window* window, int32_t peer);

// Return when the local side is done: `source` may be reused, `destination` may be read. Puts are not ordered among themselves.
TY_API ty_status ty_window_put(const ty_window* window, int32_t peer, size_t offset, const void* source, size_t num_bytes);
TY_API ty_status ty_window_get(const ty_window* window, int32_t peer, size_t offset, void* destination, size_t num_bytes);

// Releases: whoever acquires the new value sees every earlier put of this thread to this peer. `old_value` may be NULL.
TY_API ty_status ty_window_signal(const ty_window* window, int32_t peer, size_t offset, uint64_t value);
TY_API ty_status ty_window_atomic_add(const ty_window* window, int32_t peer, size_t offset, uint64_t value,
                                      uint64_t* old_value);

// This rank's word, acquired.
TY_API ty_status ty_window_load(const ty_window* window, size_t offset, uint64_t* value);

// Blocking for timeout_ms (or TY_GROUP_TIMEOUT): until this rank's word compares true with `value`. `seen` gets the word; it
// may be NULL. TY_TIMEOUT with expected and actual values, and the group's failure if there is one.
TY_API ty_status ty_window_wait(const ty_window* window, size_t offset, ty_compare compare, uint64_t value, int32_t timeout_ms,
                                uint64_t* seen);

// fence orders the puts before it with the puts and signals after it, for one peer; quiet returns when all puts of this thread
// are visible at all peers.
TY_API ty_status ty_window_fence(const ty_window* window, int32_t peer);
TY_API ty_status ty_window_quiet(const ty_window* window);

// The same in a stream of the group's device: these enqueue and return, may be captured in a graph, and run in the stream's
// order. A put's source stays as it is until then. A signal releases what the stream did before it; what the stream does behind
// a wait sees what the signaller had put. A wait that takes longer than timeout_ms (or TY_GROUP_TIMEOUT) becomes the group's
// failure, and the stream goes on. TY_UNSUPPORTED for a window in host memory.
TY_API ty_status ty_window_put_in_stream(const ty_window* window, int32_t peer, size_t offset, const void* source,
                                         size_t num_bytes, void* stream);
TY_API ty_status ty_window_signal_in_stream(const ty_window* window, int32_t peer, size_t offset, uint64_t value, void* stream);
TY_API ty_status ty_window_wait_in_stream(const ty_window* window, size_t offset, ty_compare compare, uint64_t value,
                                          int32_t timeout_ms, void* stream);

// A window as kernels of the group's device see it: the fields of tokenyard::DeviceWindow, which the verbs of
// tokenyard/device.cuh take. Good as long as a handle of the window is there.
typedef struct ty_device_window {
  size_t struct_size;
  size_t num_bytes;              // per rank
  void* const* regions;          // [num_ranks], on the device: NULL for ranks of other domains
  uint64_t* const* failures;     // [num_ranks], on the device: every rank's failure word, or NULL
  uint64_t timeout_nanoseconds;  // of a wait that names none
  uint64_t missed_deadline;      // what a wait that ends too early writes into the failure words
  int32_t rank;
  int32_t num_ranks;
} ty_device_window;
#define TY_DEVICE_WINDOW_INIT {sizeof(ty_device_window), 0, NULL, NULL, 0, 0, -1, 0}

// TY_UNSUPPORTED for a window in host memory.
TY_API ty_status ty_window_get_device_window(const ty_window* window, ty_device_window* device_window);

// --- Shape: what a plan is made from ---

typedef int32_t ty_mode;
enum {
  TY_MODE_THROUGHPUT = 0,  // counts first, then rows to their final places: least memory. Training and prefill
  TY_MODE_LATENCY = 1      // no counts: every source owns max_tokens places at every destination. Decode
};

// How received rows stand. L is the number of local experts, N the number of received rows.
typedef int32_t ty_layout;
enum {
  TY_LAYOUT_COMPACT = 0,            // [N, row]: one row per (token, destination rank), in (source rank, token) order
  TY_LAYOUT_EXPERT_CONTIGUOUS = 1,  // [N', row]: one row per (token, local expert), grouped by expert, each group aligned
  TY_LAYOUT_EXPERT_PADDED = 2       // [L, expert_capacity, row], with a count per expert
};

// What happens to rows for which a slot has no room.
typedef int32_t ty_overflow;
enum {
  TY_OVERFLOW_GROW = 0,  // the slot grows on all ranks before the first row moves
  TY_OVERFLOW_DROP = 1   // the last rows in (source rank, token) order are dropped and counted; shapes never change
};

typedef int32_t ty_scale_format;
enum {
  TY_SCALE_FLOAT32 = 0,             // amax / 448
  TY_SCALE_FLOAT32_POWER_OF_2 = 1,  // the same rounded up to a power of two
  TY_SCALE_UE8M0 = 2                // that power of two as its exponent byte
};

// One part of a payload. Rows of lane 0 must be a multiple of 16 bytes.
typedef struct ty_lane {
  size_t struct_size;
  int64_t num_elements;  // per row
  ty_data_type dtype;
  int32_t column_major;  // expert layouts: the result's columns are dense instead of its rows
} ty_lane;
#define TY_LANE_INIT {sizeof(ty_lane), 0, TY_BFLOAT16, 0}

// Rows that become FP8 with one scale per 128 values on their way: lanes 0 and 1 must be float8_e4m3 and its scales, and a
// dispatch is given one tensor of type `from` for the two.
typedef struct ty_quantization {
  size_t struct_size;
  ty_data_type from;  // float32, bfloat16 or float16
  ty_scale_format format;
} ty_quantization;
#define TY_QUANTIZATION_INIT {sizeof(ty_quantization), TY_BFLOAT16, TY_SCALE_FLOAT32}

// Where experts live: those of rank 0, then those of rank 1, and so on. An expert may stand on several ranks (replicas) and
// must stand on one at least; its place in its rank's list is its local id.
typedef struct ty_placement {
  size_t struct_size;
  const int32_t* experts;            // [num_entries]
  const int32_t* num_local_experts;  // [num_ranks]: how many of the entries belong to each rank; they add up to num_entries
  int32_t num_entries;
  int32_t num_ranks;
} ty_placement;
#define TY_PLACEMENT_INIT {sizeof(ty_placement), NULL, NULL, 0, 0}

// Read while the call that gets it runs; nothing of it is kept. Equal on all ranks.
typedef struct ty_shape {
  size_t struct_size;
  int64_t max_tokens;       // per rank and call; actual counts may differ per rank and be zero
  int64_t expert_capacity;  // rows per expert; TY_LAYOUT_EXPERT_PADDED. Rows beyond it are always dropped
  int64_t recv_capacity;    // rows that a slot holds; 0: a size that balanced routing never exceeds under TY_OVERFLOW_GROW, the
                            // worst case under TY_OVERFLOW_DROP and in latency mode
  const ty_lane* lanes;     // what dispatch carries, [num_lanes]
  const ty_lane* combine;   // what combine carries and sums; NULL: lane 0 if that can be summed, otherwise dispatch only
  const ty_quantization* quantization;  // NULL: rows travel as they are
  const ty_placement* placement;        // NULL: rank r holds the experts [r * ceil(E/R), (r+1) * ceil(E/R)), cut at E
  int32_t num_lanes;
  int32_t num_experts;
  int32_t top_k;
  ty_mode mode;
  ty_layout layout;
  ty_overflow overflow;
  int32_t combine_as_float8;  // contributions travel home as FP8 with scales
  int32_t mask_late_ranks;    // latency mode: a rank that misses a deadline, or is gone, is masked instead of ending the call
  int32_t expert_alignment;   // rows; TY_LAYOUT_EXPERT_CONTIGUOUS
  int32_t max_local_experts;  // a bound that leaves room for later placements; 0: what `placement` needs
} ty_shape;
#define TY_SHAPE_INIT                                                                                 \
  {sizeof(ty_shape), 0, 0, 0, NULL, NULL, NULL, NULL, 0, 0, 0, TY_MODE_THROUGHPUT, TY_LAYOUT_COMPACT, \
   TY_OVERFLOW_GROW, 0, 0, 1, 0}

// The sizes of a plan's memory on each rank.
typedef struct ty_plan_sizes {
  size_t struct_size;
  int64_t recv_capacity;    // rows that a slot holds at first
  int64_t worst_recv_rows;  // rows that it can be asked to hold
  uint64_t window_bytes;    // all windows of a rank, both slots
  uint64_t metadata_bytes;  // the part of window_bytes that is bookkeeping
  int32_t max_local_experts;
  int32_t max_fan_out;  // ranks that one token can visit
  int32_t num_regions;  // named parts; those of slots counted once
  int32_t num_slots;
} ty_plan_sizes;
#define TY_PLAN_SIZES_INIT {sizeof(ty_plan_sizes), 0, 0, 0, 0, 0, 0, 0, 0}

// One named part of a plan's memory.
typedef struct ty_region {
  size_t struct_size;
  uint64_t offset;  // bytes from the window's start
  uint64_t num_bytes;
  int32_t is_metadata;  // bookkeeping rather than payload
  char window[20];      // "control", or "dispatch" or "combine", of which there is one per slot
  char name[48];        // both end with a zero byte, cut where too long
} ty_region;
#define TY_REGION_INIT {sizeof(ty_region), 0, 0, 0, {0}, {0}}

// Check a shape and compute its sizes; they need no ranks and no memory. TY_INVALID_ARGUMENT says the value, the limit and the
// way out.
TY_API ty_status ty_compute_plan_sizes(const ty_shape* shape, int32_t num_ranks, ty_plan_sizes* sizes);
TY_API ty_status ty_compute_plan_region(const ty_shape* shape, int32_t num_ranks, int32_t region_idx, ty_region* region);

// --- Plan: dispatch and combine ---

typedef struct ty_plan ty_plan;          // one thread at a time; calls come in the same order on all ranks
typedef struct ty_received ty_received;  // a dispatch's result on this rank
typedef struct ty_routing ty_routing;    // what a dispatch learned; never changes, any number of threads may read it
typedef struct ty_pending ty_pending;    // the first half of a split call has been made

// Collective; blocking for the group's timeout. TY_INVALID_ARGUMENT for a shape that cannot be, TY_DISAGREEMENT naming ranks
// and fields where the ranks' shapes differ: nothing is left behind in either case. TY_TIMEOUT, TY_PEER_LOST, TY_SYSTEM. On
// GPUs TY_UNSUPPORTED for latency mode, and to be called while no kernel of this rank's GPU waits for another rank.
TY_API ty_status ty_plan_create(ty_group* group, const ty_shape* shape, ty_plan** plan);

// Waits for a callback of ty_pending_on_done that is running, unless that callback itself calls it, and for nothing else.
TY_API void ty_plan_destroy(ty_plan* plan);

TY_API int32_t ty_plan_num_local_experts(const ty_plan* plan);  // of this rank
TY_API ty_status ty_plan_get_sizes(const ty_plan* plan, ty_plan_sizes* sizes);
TY_API ty_status ty_plan_get_region(const ty_plan* plan, int32_t region_idx, ty_region* region);

// Sizes of a dispatch's result on this rank, known before its rows arrive. On GPUs the host does not learn them under
// TY_OVERFLOW_DROP: num_recv_rows and num_expanded_rows are -1 then (but that of TY_LAYOUT_EXPERT_PADDED is known).
typedef struct ty_recv_sizes {
  size_t struct_size;
  int64_t num_recv_rows;      // N: one per (token, this rank)
  int64_t num_expanded_rows;  // N': rows of the expert layout, padding included; N for the compact one. A bound in an
                              // allocation callback where TY_LAYOUT_EXPERT_CONTIGUOUS may drop rows; exact in the result
  int64_t num_tensor_rows;    // rows that each output tensor needs
  int64_t num_local_experts;
} ty_recv_sizes;
#define TY_RECV_SIZES_INIT {sizeof(ty_recv_sizes), 0, 0, 0, 0}

// The allocation callback: sets *outputs[i], one dense tensor per lane of the shape, of sizes->num_tensor_rows rows or more, or
// [L, expert_capacity, num_elements] for TY_LAYOUT_EXPERT_PADDED (ty_tensor_set_dense does). Called by the thread that called
// dispatch, or the half of it that learns the sizes: begin in throughput mode, complete in latency mode. Any status but TY_OK
// is that of the call, with the text of ty_set_error, after the turn, which the others complete; the call must then not be
// repeated. Outputs that do not fit are TY_INVALID_ARGUMENT then, likewise after the turn, although rows were sent. On GPUs the
// kernels of the call may be waiting for other ranks meanwhile: take memory from a pool, not from CUDA.
typedef ty_status (*ty_allocate_function)(void* context, const ty_recv_sizes* sizes, ty_tensor* const* outputs,
                                          int32_t num_outputs);

// What moves rows on a GPU.
typedef int32_t ty_copies;
enum {
  TY_COPIES_CHOSEN = 0,  // bulk where the GPU has it
  TY_COPIES_BULK = 1,    // asynchronous bulk copies, Hopper and later: few SMs fill the link
  TY_COPIES_PLAIN = 2,   // loads and stores of 16 bytes: any GPU
  // Rows are packed, and then the GPU's copy engines carry them, but the first of a dispatch, which SMs store.
  // TY_OVERFLOW_GROW, ty_device.copy_engines and a GPU for each rank; a combine needs its rows in the slot (TY_LAYOUT_COMPACT,
  // ty_received_get_combine_buffer). TY_UNSUPPORTED otherwise.
  TY_COPIES_ENGINE = 3
};

// Where and how a call runs on a GPU. May differ per rank. Ranks in host memory take the defaults alone: TY_UNSUPPORTED
// otherwise.
typedef struct ty_execution {
  size_t struct_size;
  void* stream;     // cudaStream_t of the group's device, in which everything of the call runs; NULL: the default stream. A
                    // slot's next dispatch must stand behind all that reads or writes the slot's rows
  void* wait_for;   // cudaEvent_t: the call begins when it is past; or NULL
  void* record;     // cudaEvent_t: recorded behind the call; or NULL
  int32_t num_sms;  // that the call may occupy, 1 to those of the device; 0: the group's
  ty_copies copies;
} ty_execution;
#define TY_EXECUTION_INIT {sizeof(ty_execution), NULL, NULL, NULL, 0, TY_COPIES_CHOSEN}

typedef struct ty_dispatch_args {
  size_t struct_size;
  const ty_tensor* lanes;  // one [num_tokens, num_elements] per lane of the shape. Rows of lane 0 must be dense; rows may stand
                           // apart, and further lanes may have any strides. With quantization one tensor for lanes 0 and 1
  const ty_tensor* topk_idx;      // int32 or int64 [num_tokens, top_k]; -1 entries are skipped, duplicates are kept
  const ty_routing* routing;      // instead of topk_idx: a cached dispatch, which sends other rows the same way
  const ty_tensor* topk_weights;  // float32 [num_tokens, top_k]; NULL: none travel. Not with `routing`
  const ty_tensor* outputs;       // [num_outputs]: where the rows shall go; none: they stay in the slot until released
  ty_allocate_function allocate;  // the same for a caller who wants to know the sizes first
  void* allocate_context;
  int32_t num_lanes;
  int32_t num_outputs;
  int32_t slot;                   // 0 or 1, equal on all ranks; -1 alternates
  int32_t timeout_ms;             // of each wait, or TY_GROUP_TIMEOUT
  const ty_execution* execution;  // on GPUs; NULL: the defaults. Since ABI 0.2
} ty_dispatch_args;
#define TY_DISPATCH_ARGS_INIT \
  {sizeof(ty_dispatch_args), NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, -1, TY_GROUP_TIMEOUT, NULL}

typedef struct ty_combine_args {
  size_t struct_size;
  const ty_routing* routing;
  const ty_tensor* rows;              // the experts' outputs in the layout that dispatch gave, dense
  const ty_tensor* factors;           // float32 [N], [N'] or [L, expert_capacity]: each row is multiplied before it is added
  const ty_tensor* topk_weights;      // latency mode: the factors, given by the tokens' homes now. float32 [num_tokens, top_k]
  const ty_tensor* carried_weights;   // a payload of its own: float32 [N, top_k], or [N'] or [L, expert_capacity]
  const ty_tensor* returned_weights;  // where it comes out: float32 [num_tokens, top_k]
  const ty_tensor* biases;            // [num_biases], of [num_tokens, row] each; added last, in this order
  const ty_tensor* output;            // [num_tokens, row], dense rows
  int32_t num_biases;                 // 0 to 2
  int32_t use_routing_weights;        // the factors are the weights that travelled with dispatch; expert layouts
  int32_t slot;                       // as for dispatch
  int32_t timeout_ms;                 // of each wait, or TY_GROUP_TIMEOUT
  const ty_execution* execution;      // on GPUs; NULL: the defaults. Since ABI 0.2
} ty_combine_args;
#define TY_COMBINE_ARGS_INIT \
  {sizeof(ty_combine_args), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, -1, TY_GROUP_TIMEOUT, NULL}

// Collective; blocking, each wait for args->timeout_ms. Bad input is TY_INVALID_ARGUMENT before anything is sent: the call may
// then be repeated; so is a third live result. A failure on any rank ends the call on all: TY_TIMEOUT, TY_PEER_LOST,
// TY_DISAGREEMENT, TY_SYSTEM. TY_STALE for a Routing that has had its time.
//
// On GPUs it is enqueued in args->execution->stream and returns; tensors must stay valid until the stream has passed the call.
// Under TY_OVERFLOW_GROW a dispatch that is not cached waits until the sizes are known, and no call can be captured in a graph
// (TY_UNSUPPORTED). What fails in the stream shows in ty_group_get_failure, and is returned by the plan's next call.
TY_API ty_status ty_plan_dispatch(ty_plan* plan, const ty_dispatch_args* args, ty_received** received);

// Collective; blocking and errors as for ty_plan_dispatch. Sums rows per token in the order that Plan::combine states, in
// float32 (float64 for float64).
TY_API ty_status ty_plan_combine(ty_plan* plan, const ty_combine_args* args);

// The two calls in halves, in any mode: begin sends, complete waits and delivers. Collective; begin waits until places to write
// to are free (and for counts in throughput mode, for weights where combine is given topk_weights), each wait for
// args->timeout_ms. Errors as above. Calls of one plan come in the same order on all ranks, halves included.
//
// When begin returns, structs and handles of `args` may go, and so may the memory of a dispatch's lanes, ids and weights. Until
// complete has returned these must stay valid: a dispatch's outputs and allocate's context; a combine's rows, biases, output
// and returned_weights. On GPUs both halves are enqueued in the stream that begin was given, and all memory must stay valid
// until the stream has passed them.
TY_API ty_status ty_plan_begin_dispatch(ty_plan* plan, const ty_dispatch_args* args, ty_pending** pending);
TY_API ty_status ty_plan_begin_combine(ty_plan* plan, const ty_combine_args* args, ty_pending** pending);

// Latency mode (TY_UNSUPPORTED otherwise): skips `rank` from the next call on. Local; only ty_group_recover takes masked ranks
// back.
TY_API ty_status ty_plan_mask_rank(ty_plan* plan, int32_t rank);

// Writes the masked ranks, as many as fit into `capacity`, and their number, which may be larger.
TY_API ty_status ty_plan_get_masked_ranks(const ty_plan* plan, int32_t* ranks, int32_t capacity, int32_t* num_masked);

// What a rank has seen of one peer, in all calls of a plan in latency mode.
typedef struct ty_peer_counters {
  size_t struct_size;
  uint64_t num_calls;         // halves of calls that waited for the peer
  uint64_t num_rows;          // rows received from it in dispatches
  uint64_t wait_nanoseconds;  // from the beginning of complete to the arrival of its part, summed over calls
} ty_peer_counters;
#define TY_PEER_COUNTERS_INIT {sizeof(ty_peer_counters), 0, 0, 0}

// Any thread, at any time.
TY_API ty_status ty_plan_get_counters(const ty_plan* plan, int32_t rank, ty_peer_counters* counters);

// Collective: replaces the placement. Local and not blocking by itself; every rank must pass the same table between the same
// calls. A cached dispatch with a Routing made before it is TY_STALE. On GPUs it waits until the plan's calls are over; of
// captured ones that are replayed it does not know: synchronise with their streams first.
TY_API ty_status ty_plan_place(ty_plan* plan, const ty_placement* placement);

// --- Pending: between the halves ---

// On GPUs an event of the stream says whether a half is done: ty_pending_done, _wait and _on_done are TY_UNSUPPORTED.

// Whether complete will not wait; true also after a failure of the group, which complete returns if anything is missing. One
// wait it does not see: in throughput mode a combine whose rows are read in place waits in complete until the others have read
// them in theirs. Local. Any thread, as long as none completes or destroys the handle.
TY_API ty_status ty_pending_done(const ty_pending* pending, bool* done);

// Blocking for timeout_ms: until done; says whether it is. A peer that is late here has not missed a deadline yet. Threads as
// above.
TY_API ty_status ty_pending_wait(const ty_pending* pending, int32_t timeout_ms, bool* done);

// The completion callback. Called once, from a thread of the plan, when done or when the call's timeout has passed.
typedef void (*ty_done_function)(void* context);

// Local. The callback is dropped with the plan, that is with the last of the handles of the plan, of its pending calls and of
// its received rows; `context` must stay valid until the callback has returned or these have been destroyed.
TY_API ty_status ty_pending_on_done(ty_pending* pending, ty_done_function function, void* context);

// Collective, once per pending call, the kind that was begun (TY_INVALID_ARGUMENT for the other, TY_STALE for the second time).
// Blocking and errors as ty_plan_dispatch and ty_plan_combine. The handle still wants to be destroyed.
TY_API ty_status ty_pending_complete_dispatch(ty_pending* pending, ty_received** received);
TY_API ty_status ty_pending_complete_combine(ty_pending* pending);

// Without complete the turn stays open: the slot stays taken, and peers will miss this rank.
TY_API void ty_pending_destroy(ty_pending* pending);

// --- Received ---

// Rows of lane i: [N, num_elements], [N', num_elements] or [L, expert_capacity, num_elements]; under TY_OVERFLOW_DROP the first
// dimension is the capacity. May be overwritten until they are released. Local, as all of these; TY_STALE once rows in the slot
// have been released.
TY_API ty_status ty_received_get_lane(const ty_received* received, int32_t lane_idx, ty_tensor* lane);

// A borrowed tensor for the experts' outputs, in the layout of the lanes with rows of the combine type, from which combine
// takes rows without a copy in between. Writable until the result is released or combined. May overlap the lanes.
// TY_UNSUPPORTED unless the rows are in the slot of a plan that combines; TY_STALE once released. The slot's first use of it
// may take memory, which on GPUs is TY_UNSUPPORTED while a stream is captured.
TY_API ty_status ty_received_get_combine_buffer(const ty_received* received, ty_tensor* buffer);

TY_API ty_status ty_received_get_sizes(const ty_received* received, ty_recv_sizes* sizes);

// A handle of its own, which outlives the rows.
TY_API ty_status ty_received_get_routing(const ty_received* received, ty_routing** routing);

TY_API int32_t ty_received_slot(const ty_received* received);
TY_API bool ty_received_live(const ty_received* received);

// Lets the ranks write into the slot again; tensors of the slot are dangling from here on. Idempotent. On GPUs the slot's next
// dispatch says so in its stream: kernels that were enqueued before may still use the rows if that dispatch stands behind them.
TY_API void ty_received_release(ty_received* received);

// Releases, too.
TY_API void ty_received_destroy(ty_received* received);

// --- Routing ---

// Any number of threads. The tensors stay valid as long as the handle, must not be written to, and have no dimensions where
// there is nothing to show. N: received rows, k: top-k, R: ranks, L: this rank's experts, N': expanded rows. Under
// TY_OVERFLOW_DROP N and N' are the fixed capacities, and entries that stand for no row are -1 (weights: 0).
TY_API void ty_routing_destroy(ty_routing* routing);

// Of ranks on GPUs the tensors are memory of the GPU, written when the call's stream has come so far; a Routing of a captured
// call must live as long as the graph. Numbers that the host does not know are fetched from the GPU: these wait until it has
// finished the dispatch, at most for the group's timeout, and are -1 if it has not (ty_last_error says so).
TY_API int64_t ty_routing_num_tokens(const ty_routing* routing);  // that this rank sent
TY_API int64_t ty_routing_num_recv_rows(const ty_routing* routing);
TY_API int64_t ty_routing_num_expanded_rows(const ty_routing* routing);
TY_API int64_t ty_routing_num_dropped(const ty_routing* routing);  // (token, expert) pairs lost for want of capacity

// int32 [N, k]: local expert ids, -1 for experts elsewhere; float32 [N, k]: all k weights of the token; int32 [N]: the token's
// index at its source; int64 [R + 1]: rows [i, i + 1) came from rank i.
TY_API ty_status ty_routing_topk_idx(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_topk_weights(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_source_token(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_source_offsets(const ty_routing* routing, ty_tensor* tensor);

// int64 [L]: (token, expert) pairs that arrived, and pairs that were lost, per expert.
TY_API ty_status ty_routing_expert_counts(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_expert_dropped(const ty_routing* routing, ty_tensor* tensor);

// Expert layouts. int64 [L + 1]: first row of each expert's group; int64 [N, k]: where (row, k) stands, or -1; int32 [N']: the
// compact row that each expanded row copies, or -1; int32 [N']: the token's index at its source, or -1; int64 [L, R + 1]:
// within expert l's group rows [l, i] to [l, i + 1] came from rank i; float32 [N']: the weight of each expanded row.
TY_API ty_status ty_routing_expert_offsets(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_expanded_row(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_gather_idx(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_expanded_source_token(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_expert_source_offsets(const ty_routing* routing, ty_tensor* tensor);
TY_API ty_status ty_routing_expanded_weights(const ty_routing* routing, ty_tensor* tensor);

// --- Router: the choice of experts ---

typedef int32_t ty_scoring;
enum { TY_SCORING_SOFTMAX = 0, TY_SCORING_SIGMOID = 1 };

typedef struct ty_router_options {
  size_t struct_size;
  const float* correction_bias;     // [num_experts], added to the scores for the choice only; NULL: none
  const int32_t* domain_of_expert;  // [num_experts], domains from 0; NULL: no bound on domains
  int32_t num_experts;
  int32_t top_k;
  ty_scoring scoring;
  int32_t num_groups;   // group-limited choice: equal consecutive groups, of which ...
  int32_t top_groups;   // ... only so many take part; 1 and 1: no limit
  int32_t max_domains;  // that a token may visit; 0: no bound
  int32_t normalize;    // weights of a token are divided by their sum
  float scale;          // weights are multiplied by this last
} ty_router_options;
#define TY_ROUTER_OPTIONS_INIT {sizeof(ty_router_options), NULL, NULL, 0, 0, TY_SCORING_SOFTMAX, 1, 1, 0, 0, 1.0F}

typedef struct ty_router ty_router;

// Local. TY_INVALID_ARGUMENT for options that cannot be. Nothing of `options` is kept.
TY_API ty_status ty_router_create(const ty_router_options* options, ty_router** router);
TY_API void ty_router_destroy(ty_router* router);

// logits float32 [num_tokens, num_experts]; topk_idx int32 or int64 and topk_weights float32 [num_tokens, top_k] are written,
// by descending score. Local; any number of threads.
TY_API ty_status ty_router_route(const ty_router* router, const ty_tensor* logits, const ty_tensor* topk_idx,
                                 const ty_tensor* topk_weights);

// --- Numbers ---

// values float32, bfloat16 or float16 [num_rows, hidden]; quantized float8_e4m3 of the same shape; scales [num_rows,
// ceil(hidden / 128)] float32 or ue8m0, any strides. Local. include/tokenyard/quantize.hpp has the arithmetic.
TY_API ty_status ty_quantize(const ty_tensor* values, ty_scale_format format, const ty_tensor* quantized,
                             const ty_tensor* scales);
TY_API ty_status ty_dequantize(const ty_tensor* quantized, const ty_tensor* scales, const ty_tensor* values);

// Round to nearest even, honour denormals, overflow to infinity (float8_e4m3 saturates at +-448), and turn every NaN into the
// positive one with all bits set.
TY_API uint16_t ty_float_to_bfloat16(float value);
TY_API uint16_t ty_float_to_float16(float value);
TY_API uint8_t ty_float_to_float8_e4m3(float value);
TY_API float ty_bfloat16_to_float(uint16_t bits);
TY_API float ty_float16_to_float(uint16_t bits);
TY_API float ty_float8_e4m3_to_float(uint8_t bits);
TY_API float ty_ue8m0_to_float(uint8_t bits);

#ifdef __cplusplus
}
#endif

#endif
