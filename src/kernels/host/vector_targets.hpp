// Which instruction sets the vectorised files are compiled for; one source, several targets, chosen at run time. To be included
// after HWY_TARGET_INCLUDE is set and before hwy/foreach_target.h. Few targets, since each costs its compile time.
#pragma once

// Sanitizers do not see what vector intrinsics store past the caches, so their builds take the plain loops.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HWY_COMPILE_ONLY_SCALAR
#endif

#include "hwy/detect_targets.h"

#undef HWY_DISABLED_TARGETS
#if defined(HWY_AVX3_ZEN4) && defined(HWY_AVX3_SPR)  // unknown to Highway before 1.0.4
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
