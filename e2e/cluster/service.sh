#!/usr/bin/env bash
# Pulls a cable and plugs it in again: service.sh NAME stop|kill|start|pause|resume, or service.sh list
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

usage() { fail "usage: service.sh NAME stop|kill|start|pause|resume, or service.sh list"; }

pid_of() {
  running "$1" || fail "$1 does not run"
  cut -d' ' -f1 "$PIDS/$1"
}

state_of() {
  local pid
  running "$1" || { echo stopped; return; }
  pid=$(pid_of "$1")
  case $(awk '/^State:/ {print $2}' "/proc/$pid/status") in T) echo "paused (pid $pid)" ;; *) echo "running (pid $pid)" ;; esac
}

list() {
  local name
  for name in "$RUN"/commands/*; do
    name=$(basename "$name")
    printf '%-24s %s\n' "$name" "$(state_of "$name")"
  done
}

[ -d "$RUN/commands" ] || fail "no cluster was started here: run up.sh first"
[ "${1:-}" = list ] && { list; exit 0; }
[ $# = 2 ] || usage
name=$1
[ -f "$RUN/commands/$name" ] || fail "unknown process '$name'; there are: $(cd "$RUN/commands" && echo *)"
case $2 in
  stop) stop "$name" ;;
  kill) stop "$name" KILL ;;
  start)
    running "$name" || launch "$name"
    WAIT_LOG=$LOGS/$name.log wait_for "$name serves" 60 healthy "$name"
    ;;
  pause) kill -s STOP "$(pid_of "$name")" ;;
  resume)
    kill -s CONT "$(pid_of "$name")"
    WAIT_LOG=$LOGS/$name.log wait_for "$name serves" 60 healthy "$name"
    ;;
  *) usage ;;
esac
