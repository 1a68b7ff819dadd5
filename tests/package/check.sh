#!/usr/bin/env bash
# usage: check.sh BUILD_DIR CMAKE CXX EXAMPLE [FLAG...]
#
# Installs BUILD_DIR into a prefix, moves the prefix, then builds EXAMPLE against it once by find_package and once by pkg-config,
# and runs both, and the installed program. Every installed header must compile alone.
set -euo pipefail
build_dir=$1 cmake=$2 compiler=$3 example=$4
shift 4

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
  "$compiler" -std=c++20 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" -include "$header" -x c++ /dev/null
done

echo "--- find_package"
"$cmake" -S "$here/consumer" -B "$scratch/consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_CXX_FLAGS="$*" -DCMAKE_PREFIX_PATH="$prefix" -DEXAMPLE="$example"
"$cmake" --build "$scratch/consumer"
"$scratch/consumer/consumer"

echo "--- pkg-config"
libdir=$(dirname "$(find "$prefix" -name 'libtokenyard.*' -print -quit)")
export PKG_CONFIG_PATH=$libdir/pkgconfig
echo "version $(pkg-config --modversion tokenyard)"
# shellcheck disable=SC2046  # flags are meant to be split into words
"$compiler" -std=c++20 "$@" "$example" -o "$scratch/by_pkg_config" $(pkg-config --cflags --libs tokenyard) -Wl,-rpath,"$libdir"
"$scratch/by_pkg_config"

if [[ -x $prefix/bin/tokenyard ]]; then
  echo "--- the installed program"
  "$prefix/bin/tokenyard" --version
fi
