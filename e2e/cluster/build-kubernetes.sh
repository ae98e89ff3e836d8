#!/usr/bin/env bash
# Builds the five Kubernetes daemons and the pause program from Debian's source package: build-kubernetes.sh WORK OUT
set -euo pipefail
# shellcheck source=versions.env
source "$(dirname "$0")/versions.env"
WORK=$(mkdir -p "$1" && cd "$1" && pwd)
OUT=$(mkdir -p "$2" && cd "$2" && pwd)
TREE=$WORK/gopath/src/k8s.io/kubernetes
DAEMONS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

# WORK already holds the source package and reflect2's .deb: install.sh fetched them.
unpack() {
  [ ! -f "$WORK/unpacked" ] || return 0
  rm -rf "$TREE" "$WORK/reflect2"
  mkdir -p "$(dirname "$TREE")"
  dpkg-source --no-check -x "$WORK/kubernetes_$KUBERNETES_SOURCE.dsc" "$TREE"
  dpkg -x "$WORK/$REFLECT2_PACKAGE"_*.deb "$WORK/reflect2"
  touch "$WORK/unpacked"
}

# The vendored reflect2 1.0.1 reads map internals that Go 1.18 moved: the API server would crash on the first custom resource.
replace_reflect2() {
  local vendored=$TREE/vendor/github.com/modern-go/reflect2
  rm -rf "${vendored:?}"/*
  cp "$WORK"/reflect2/usr/share/gocode/src/github.com/modern-go/reflect2/* "$vendored/"
  [ -f "$vendored/go_above_118.go" ]
}

# Since Go 1.18 the validators' test for a null value is also true for "", 0 and false, so valid custom resources would be refused.
mend_null_check() {
  local file
  for file in "$TREE"/vendor/{github.com/go-openapi,k8s.io/kube-openapi/pkg/validation}/validate/type.go; do
    sed -i 's/data == nil || reflect\.DeepEqual(reflect\.Zero(reflect\.TypeOf(data)), reflect\.ValueOf(data))/data == nil/' "$file"
    grep -q 'if data == nil {' "$file"
  done
}

# cAdvisor retries five times, a second apart, to reach a Docker engine that is not there.
skip_docker_wait() {
  local file=$TREE/vendor/github.com/google/cadvisor/container/docker/factory.go
  sed -i 's/^const rootDirRetries = 5$/const rootDirRetries = 0/' "$file"
  grep -q '^const rootDirRetries = 0$' "$file"
}

build() {
  cd "$TREE"
  env -i HOME="$WORK" GOPATH="$WORK/gopath" GO111MODULE=off CGO_ENABLED=0 FORCE_HOST_GO=y \
    PATH="$GO_DIRECTORY/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    KUBE_GIT_VERSION="v$KUBERNETES_VERSION" KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=clean \
    make GOLDFLAGS='-s -w' WHAT="${DAEMONS[*]/#/cmd/}"
}

deliver() {
  local daemon
  for daemon in "${DAEMONS[@]}"; do
    install -m 755 "$TREE/_output/local/bin/linux/amd64/$daemon" "$OUT/$daemon"
  done
  gcc -Os -static -DVERSION=serin -o "$OUT/pause" "$TREE/build/pause/linux/pause.c"
}

unpack
replace_reflect2
mend_null_check
skip_docker_wait
build
deliver
