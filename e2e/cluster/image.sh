#!/usr/bin/env bash
# Packs a binary with the libraries it loads into an image of the cluster: image.sh [--user UID[:GID]] BINARY REFERENCE [DESTINATION=SOURCE...]
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

# libraries BINARY prints DESTINATION=SOURCE for the loader and every shared library, each at the path where the loader looks.
libraries() {
  local resolved
  resolved=$(ldd "$1" 2>&1) || { grep -q 'not a dynamic executable\|statically linked' <<<"$resolved" && return 0; fail "ldd $1: $resolved"; }
  ! grep 'not found' <<<"$resolved" >&2 || fail "$1 needs libraries that are not installed here"
  awk '$2 == "=>" && $3 ~ /^\// {print $3 "=" $3} $1 ~ /^\// {print $1 "=" $1}' <<<"$resolved"
}

# full_reference NAME completes a short name the way the container runtime does when a pod asks for it.
full_reference() {
  local name=$1
  case ${name##*/} in *:*) ;; *) name=$name:latest ;; esac
  case $name in
    localhost/* | *.*/* | *:*/*) ;;
    */*) name=docker.io/$name ;;
    *) name=docker.io/library/$name ;;
  esac
  echo "$name"
}

account_files() {
  printf 'root:x:0:0:root:/:/nologin\nnobody:x:65534:65534:nobody:/:/nologin\nserin:x:%s:%s:serin:/:/nologin\n' "$1" "$1" >"$work/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\nserin:x:%s:\n' "$1" >"$work/group"
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$work/nsswitch.conf"
}

user=65532:65532
[ "${1:-}" != --user ] || { user=$2; shift 2; }
[ $# -ge 2 ] || fail "usage: image.sh [--user UID[:GID]] BINARY REFERENCE [DESTINATION=SOURCE...]"
binary=$1
reference=$(full_reference "$2")
shift 2
[ -x "$binary" ] || fail "$binary is not an executable file"
running containerd || fail "the cluster does not run: start it with up.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
account_files "${user%%:*}"
program=/usr/local/bin/$(basename "$binary")
mapfile -t files < <(libraries "$binary")
files+=("$program=$binary" "/etc/passwd=$work/passwd" "/etc/group=$work/group" "/etc/nsswitch.conf=$work/nsswitch.conf"
  "/etc/ssl/certs/ca-certificates.crt=/etc/ssl/certs/ca-certificates.crt" "$@")
step "pack $reference" python3 "$CLUSTER_SOURCE/image.py" --output "$work/image.tar" --reference "$reference" --entrypoint "$program" \
  --user "$user" "${files[@]}"
step "import $reference" ctr -a "$SOCKETS/containerd.sock" -n k8s.io images import "$work/image.tar"
