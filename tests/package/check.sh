#!/usr/bin/env bash
# usage: check.sh BUILD_DIR CMAKE CXX CC EXAMPLES_DIR
#
# Installs BUILD_DIR into a prefix, moves the prefix, then builds an example in C++ and one in C against it, each once by
# find_package and once by pkg-config, and runs them, and the installed program. Every installed C++ header must compile alone.
set -euo pipefail
build_dir=$1 cmake=$2 cxx=$3 cc=$4 example=$5/minimal.cpp c_example=$5/moe_layer.c

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$cmake" --install "$build_dir" --prefix "$scratch/first" >"$scratch/install.log" || {
  cat "$scratch/install.log"
  exit 1
}
prefix=$scratch/moved
mv "$scratch/first" "$prefix"
if grep --recursive --files-with-matches --binary-files=without-match "$scratch/first" "$prefix"; then
  echo "these files remember where they were installed first"
  exit 1
fi

echo "--- headers"
for header in "$prefix"/include/tokenyard/*.hpp; do
  "$cxx" -std=c++20 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" -include "$header" -x c++ /dev/null
done

echo "--- find_package"
"$cmake" -S "$here/consumer" -B "$scratch/consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$prefix" -DEXAMPLE="$example"
"$cmake" --build "$scratch/consumer"
"$scratch/consumer/consumer"
"$cmake" -S "$here/c_consumer" -B "$scratch/c_consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER="$cc" \
  -DCMAKE_PREFIX_PATH="$prefix" -DEXAMPLE="$c_example"
"$cmake" --build "$scratch/c_consumer"
"$scratch/c_consumer/c_consumer" 2

echo "--- pkg-config"
libdir=$(dirname "$(find "$prefix" -name 'libtokenyard.*' -print -quit)")
export PKG_CONFIG_PATH=$libdir/pkgconfig
echo "version $(pkg-config --modversion tokenyard)"
# shellcheck disable=SC2046  # flags are meant to be split into words
"$cxx" -std=c++20 "$example" -o "$scratch/by_pkg_config" $(pkg-config --cflags --libs tokenyard-cpp)
"$scratch/by_pkg_config"
# shellcheck disable=SC2046
"$cc" -std=c99 "$c_example" -o "$scratch/c_by_pkg_config" $(pkg-config --cflags --libs tokenyard) -pthread -lm \
  -Wl,-rpath,"$libdir"
"$scratch/c_by_pkg_config" 2

if [[ -x $prefix/bin/tokenyard ]]; then
  echo "--- the installed program"
  "$prefix/bin/tokenyard" --version
fi
