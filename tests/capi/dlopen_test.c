// usage: dlopen_test LIBRARY
//
// A program in C that knows the library at run time only: it opens it, makes two ranks meet, closes it, and does so again.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <tokenyard.h>

#define NUM_RANKS 2

static struct {
  uint32_t (*abi_version)(void);
  const char* (*last_error)(void);
  ty_status (*exchange_create_threads)(int32_t, ty_exchange**);
  void (*exchange_destroy)(ty_exchange*);
  ty_status (*group_create)(ty_exchange*, const ty_group_options*, ty_group**);
  ty_status (*group_barrier)(ty_group*);
  void (*group_destroy)(ty_group*);
} library;

// POSIX lets a pointer to an object become one to a function; C does not, but for its bytes.
static int find(void* handle, const char* name, void* function, size_t num_bytes) {
  void* found = dlsym(handle, name);
  if (found == NULL) fprintf(stderr, "%s\n", dlerror());
  memcpy(function, &found, num_bytes);
  return found != NULL;
}

#define FIND(name) find(handle, "ty_" #name, &library.name, sizeof(library.name))

static void* run_rank(void* context) {
  ty_exchange* exchange = context;
  ty_group* group = NULL;
  ty_status status = library.group_create(exchange, NULL, &group);
  if (status == TY_OK) status = library.group_barrier(group);
  if (status != TY_OK) fprintf(stderr, "%s\n", library.last_error());
  library.group_destroy(group);
  library.exchange_destroy(exchange);
  return status == TY_OK ? NULL : &library;
}

static int run_once(const char* path) {
  ty_exchange* exchanges[NUM_RANKS];
  pthread_t threads[NUM_RANKS];
  int num_failed = 0;
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  if (!FIND(abi_version) || !FIND(last_error) || !FIND(exchange_create_threads) || !FIND(exchange_destroy) ||
      !FIND(group_create) || !FIND(group_barrier) || !FIND(group_destroy)) {
    return 1;
  }
  if (library.abi_version() != TY_ABI_VERSION) return 1;
  if (library.exchange_create_threads(NUM_RANKS, exchanges) != TY_OK) return 1;
  for (int rank = 0; rank < NUM_RANKS; ++rank) {
    if (pthread_create(&threads[rank], NULL, run_rank, exchanges[rank]) != 0) return 1;
  }
  for (int rank = 0; rank < NUM_RANKS; ++rank) {
    void* failed = NULL;
    pthread_join(threads[rank], &failed);
    num_failed += failed != NULL;
  }
  return dlclose(handle) != 0 || num_failed != 0;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  for (int round = 0; round < 3; ++round) {
    if (run_once(argv[1]) != 0) return 1;
  }
  printf("opened, used and closed\n");
  return 0;
}
