# Shared by the scripts of the end-to-end cluster: places, logging, waiting and process handling.
# shellcheck shell=bash disable=SC2034

CLUSTER_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=versions.env
source "$CLUSTER_SOURCE/versions.env"

SERIN_CACHE=${SERIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/serin}
CLUSTER_KEY=$(cat "$CLUSTER_SOURCE/versions.env" "$CLUSTER_SOURCE/build-kubernetes.sh" | sha256sum | cut -c1-12)
INSTALL=$SERIN_CACHE/cluster/$CLUSTER_KEY
INSTALLED=$INSTALL/complete/all-$(cd "$CLUSTER_SOURCE" && cat install.sh gateway_crds.py image.py | sha256sum | cut -c1-12)
BIN=$INSTALL/bin
RUN=$SERIN_CACHE/cluster/run
PIDS=$RUN/pids
LOGS=$RUN/logs
SOCKETS=/run/serin-cluster
MEMORY=/dev/shm/serin-cluster

NODE_NAME=node1
NODE_ADDRESS=10.244.0.1
POD_RANGE=10.244.0.0/24
SERVICE_RANGE=10.96.0.0/16
KUBERNETES_ADDRESS=10.96.0.1
API_URL=https://$NODE_ADDRESS:6443
PROXY_PORT=18443
ETCD_PORT=22379
GATEWAY_PORT=18000
GATEWAY_METRICS_PORT=18090
PROMETHEUS_PORT=19090

export PATH=$BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export KUBECONFIG=$RUN/admin.kubeconfig

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }

# step DESCRIPTION CMD... runs the command with its output in a log, then prints one line with the time it took.
step() {
  local what=$1 start log rc=0
  shift
  start=$(now_ms)
  mkdir -p "$LOGS"
  log=$LOGS/step-$(tr -cs 'A-Za-z0-9.\n' '-' <<<"$what").log
  ("$@") >"$log" 2>&1 </dev/null &
  wait $! || rc=$?
  if [ "$rc" != 0 ]; then
    say "FAILED ($rc): $what; the last lines of $log:" >&2
    tail -n 25 "$log" >&2
    exit "$rc"
  fi
  printf '%9s  %s\n' "$(($(now_ms) - start)) ms" "$what"
}

# wait_for DESCRIPTION TIMEOUT_SECONDS CMD... polls a command; WAIT_LOG names the log whose end is shown on a time-out.
wait_for() {
  local what=$1 limit=$2 start end
  shift 2
  start=$(now_ms)
  end=$((start + limit * 1000))
  until "$@" >"$LOGS/wait.out" 2>&1; do
    if [ "$(now_ms)" -ge "$end" ]; then
      say "error: timed out after $limit s waiting for: $what" >&2
      say "--- last output of: $*" >&2
      tail -n 10 "$LOGS/wait.out" >&2
      [ -z "${WAIT_LOG:-}" ] || { say "--- end of $WAIT_LOG" >&2; tail -n 20 "$WAIT_LOG" >&2; }
      exit 1
    fi
    sleep 0.05
  done
  printf '%9s  %s\n' "$(($(now_ms) - start)) ms" "$what"
}

# running NAME succeeds while the recorded process of that name is alive and still the same program.
running() {
  local pid started
  [ -s "$PIDS/$1" ] || return 1
  read -r pid started <"$PIDS/$1"
  [ "$(process_start "$pid")" = "$started" ]
}

# process_start PID prints the kernel's start time of a process, which tells a reused pid from the original.
process_start() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [ "$1" = Z ] || echo "${20}"
}

# spawn NAME CMD... records the command and starts it in a session of its own, unless it already runs.
spawn() {
  local name=$1
  shift
  running "$name" && return 0
  mkdir -p "$RUN/commands"
  printf '%q ' "$@" >"$RUN/commands/$name"
  launch "$name"
}

# launch NAME starts the command that spawn recorded.
launch() {
  local name=$1 pid
  local -a command
  mkdir -p "$PIDS" "$LOGS"
  [ -s "$RUN/commands/$name" ] || fail "nothing was ever started under the name '$name'"
  eval "command=($(cat "$RUN/commands/$name"))"
  setsid nohup "${command[@]}" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  pid=$!
  disown "$pid"
  echo "$pid $(process_start "$pid")" >"$PIDS/$name"
}

# stop NAME [SIGNAL] ends a spawned process: the signal first (TERM if none is named), KILL after 10 s.
stop() {
  local name=$1 signal=${2:-TERM} pid end
  if running "$name"; then
    read -r pid _ <"$PIDS/$name"
    kill -s "$signal" "$pid" 2>/dev/null || true
    kill -s CONT "$pid" 2>/dev/null || true
    end=$(($(now_ms) + 10000))
    while running "$name"; do
      [ "$(now_ms)" -lt "$end" ] || kill -s KILL "$pid" 2>/dev/null || true
      sleep 0.05
    done
  fi
  rm -f "$PIDS/$name"
}

# healthy NAME succeeds when that process serves; a process without a check of its own only has to run.
healthy() {
  case $1 in
    etcd) curl -fs -m 2 "http://127.0.0.1:$ETCD_PORT/health" ;;
    kube-apiserver) curl -fs -m 2 --cacert "$RUN/pki/ca.crt" "$API_URL/readyz" ;;
    containerd) timeout 5 ctr -a "$SOCKETS/containerd.sock" version ;;
    discovery-proxy) curl -fs -m 2 --cacert "$RUN/pki/ca.crt" "https://127.0.0.1:$PROXY_PORT/readyz" ;;
    traefik) curl -fs -m 2 "http://127.0.0.1:$GATEWAY_METRICS_PORT/ping" ;;
    prometheus) curl -fs -m 2 "http://$NODE_ADDRESS:$PROMETHEUS_PORT/-/ready" ;;
    kube-proxy) curl -fs -m 2 "http://$NODE_ADDRESS:10256/healthz" ;;
    *) running "$1" ;;
  esac
}

# spawned lists the names of the processes that have a pid file.
spawned() { [ ! -d "$PIDS" ] || ls "$PIDS"; }
