// What AddressSanitizer is told of memory, where it is there.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, num_bytes) ((void)(address), (void)(num_bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, num_bytes) ((void)(address), (void)(num_bytes))
#endif
