#!/usr/bin/env bash
# usage: fresh_system_check.sh [COMMAND...]
#
# Proves that a clone and one command suffice: makes a minimal Debian in a temporary folder, clones the last commit of this
# repository into it, and runs COMMAND there (by default ./dev demo) as root, without sudo, without HOME, and with no packages but
# the essential ones. Exits with the status of COMMAND and leaves nothing behind.
#
# Needs root and mmdebstrap. Package sources, proxies and local certificate authorities are those of this machine.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
(($# > 0)) || set -- ./dev demo

((EUID == 0)) || {
  echo "fresh_system_check.sh needs root: it makes a file system and mounts into it" >&2
  exit 2
}
for tool in mmdebstrap unshare git; do
  command -v "$tool" >/dev/null || {
    echo "fresh_system_check.sh needs $tool" >&2
    exit 2
  }
done

# The mounts below live in a namespace that ends with its last process, so what is removed here is this folder's alone.
root=$(mktemp -d --tmpdir tokenyard-fresh.XXXXXX)
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 130' INT TERM

# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mapfile -t sources < <(find /etc/apt -path '*sources.list*' \( -name '*.sources' -o -name '*.list' -size +0 \))
apt_options=()
while IFS= read -r option; do
  apt_options+=(--aptopt="$option")
done < <(apt-config dump --format '%F "%v";%n' | grep -E '^Acquire::(Check-(Valid-Until|Date)|https?::Proxy)')

echo "fresh system: $suite, minimal, in $root"
mmdebstrap --quiet --mode=root --variant=minbase "${apt_options[@]}" "$suite" "$root" "${sources[@]}"
cp --dereference /etc/resolv.conf /etc/hosts "$root/etc/"
if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
  mkdir -p "$root/usr/local/share/ca-certificates"
  cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
fi
git clone --quiet --no-hardlinks "$repository" "$root/opt/tokenyard"
echo "fresh system: $(find "$root/var/lib/dpkg/info" -name '*.list' | wc -l) packages; commit $(git -C "$repository" rev-parse --short HEAD); running: $*"

environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  [[ -z ${!name:-} ]] || environment+=("$name=${!name}")
done

status=0
# shellcheck disable=SC2016  # expanded inside
unshare --mount --pid --fork --kill-child bash -c '
  set -e
  root=$1
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  shift
  exec chroot "$root" /usr/bin/env -i "$@"
' enter "$root" "${environment[@]}" bash -c 'cd /opt/tokenyard && exec "$@"' run "$@" </dev/null || status=$?

echo "fresh system: exit status $status"
exit "$status"
