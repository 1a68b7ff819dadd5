#!/usr/bin/env bash
# usage: compile_header.sh CC CXX INCLUDE_DIR SOURCE
#
# SOURCE must compile without a warning in every language of the header's promise, and the header must include nothing but the
# three standard headers that it names.
set -euo pipefail
cc=$1 cxx=$2 include_dir=$3 source=$4
warnings=(-Wall -Wextra -pedantic -Werror -Wshadow -Wconversion)

for standard in c99 c11 c17; do
  "$cc" -std="$standard" "${warnings[@]}" -Wstrict-prototypes -Wmissing-prototypes -fsyntax-only -I"$include_dir" -x c "$source"
done
for standard in c++98 c++11 c++17 c++20; do
  "$cxx" -std="$standard" "${warnings[@]}" -Wno-long-long -fsyntax-only -I"$include_dir" -x c++ "$source"
done

included=$(sed -nE 's/^ *# *include *<(.*)>.*/\1/p' "$include_dir/tokenyard.h" | sort | tr '\n' ' ')
[[ $included == "stdbool.h stddef.h stdint.h " ]] || {
  echo "tokenyard.h includes $included"
  exit 1
}
! grep -q '#include "' "$include_dir/tokenyard.h"
