#!/usr/bin/env bash
# Ends what up.sh started and removes its traces from the machine; --purge also removes logs, certificates and run state.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

in_containerd() { timeout 10 ctr -a "$SOCKETS/containerd.sock" -n k8s.io "$@"; }

# With the kubelet gone nothing restarts them: end every task, then forget the containers.
end_pods() {
  local id
  running containerd || return 0
  for id in $(in_containerd tasks ls -q); do in_containerd tasks kill -a -s SIGKILL "$id" || true; done
  sleep 0.2
  for id in $(in_containerd tasks ls -q); do in_containerd tasks rm -f "$id" || true; done
  for id in $(in_containerd containers ls -q); do in_containerd containers rm "$id" || true; done
}

# A shim outlives containerd; ours are those that were told our socket.
end_shims() {
  local directory
  for directory in /proc/[0-9]*; do
    if tr '\0' ' ' 2>/dev/null <"$directory/cmdline" | grep -q -- "^[^ ]*containerd-shim-runc-v2 .*-address $SOCKETS/containerd.sock"; then
      kill -s KILL "${directory#/proc/}" || true
    fi
  done
}

# Where containerd died first, its containers live on: the kubelet's control groups name their processes.
end_orphans() {
  local pid
  [ -n "$existed" ] || return 0
  while read -r pid; do kill -s KILL "$pid" 2>/dev/null || true; done \
    < <(find /sys/fs/cgroup/*/kubepods -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un)
}

unmount_all() {
  local target
  while read -r target; do umount -l "$target"; done \
    < <(awk -v run="$RUN/" -v sockets="$SOCKETS/" 'index($2, run) == 1 || index($2, sockets) == 1 {print $2}' /proc/mounts | sort -r)
}

# The kubelet's and kube-proxy's chains all begin with KUBE-; every other rule is put back as it was.
clear_rules() {
  local family table rules
  for family in iptables ip6tables; do
    for table in nat filter mangle; do
      rules=$("$family-save" -t "$table" 2>/dev/null) || continue
      grep -q KUBE- <<<"$rules" || continue
      grep -v KUBE- <<<"$rules" | "$family-restore" -T "$table"
    done
  done
}

restore_machine() {
  ! ip link show serin0 >/dev/null 2>&1 || ip link delete serin0
  [ ! -f "$RUN/sysctls" ] || sysctl -q -p "$RUN/sysctls" || true
  find /sys/fs/cgroup/*/kubepods -depth -type d -exec rmdir {} \; 2>/dev/null || true
  rm -rf "$SOCKETS" "$MEMORY" "$RUN/sysctls" "$RUN/applied" "$RUN/commands" "$RUN/kubelet" "$RUN/containerd" "$RUN/dns.hosts"
}

# The store is in memory and not needed again, so its users need no orderly end.
end_control_plane() {
  local name
  for name in $(spawned); do [ "$name" = containerd ] || stop "$name" KILL; done
}

[ "$(id -u)" = 0 ] || fail "down.sh needs root"
if [ -z "${LOCKED:-}" ]; then
  mkdir -p "$RUN"
  exec 9>"$RUN/../run.lock"
  flock -w 300 9 || fail "another up.sh or down.sh has been at work for 5 minutes"
fi
existed=$([ ! -e "$RUN/commands" ] || echo yes)
step "stop the kubelet and kube-proxy" eval 'stop kubelet; stop kube-proxy'
step "end the pods" end_pods
step "stop the other processes" end_control_plane
step "stop containerd" stop containerd
step "end left-over shims, containers and mounts" eval 'end_shims; end_orphans; unmount_all'
step "remove network rules and the bridge" eval 'clear_rules; restore_machine'
if [ "${1:-}" = --purge ]; then
  rm -rf "$RUN"
elif [ -n "$existed" ]; then
  rm -rf "$RUN/logs.previous"
  mv "$LOGS" "$RUN/logs.previous"
fi
say "cluster is down"
