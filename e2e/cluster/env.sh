# Makes the cluster usable from a shell or a test runner: source e2e/cluster/env.sh
# shellcheck shell=bash source=lib.sh

# The library's own names stay in a subshell; only what is printed there comes out.
eval "$(
  source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
  printf 'export KUBECONFIG=%q\n' "$KUBECONFIG"
  printf 'export GATEWAY_URL=%q\n' "http://127.0.0.1:$GATEWAY_PORT"
  printf 'export GATEWAY_METRICS_URL=%q\n' "http://127.0.0.1:$GATEWAY_METRICS_PORT/metrics"
  printf 'export PROMETHEUS_URL=%q\n' "http://$NODE_ADDRESS:$PROMETHEUS_PORT"
  printf 'export AUDIT_LOG=%q\n' "$LOGS/audit.log"
  printf 'export CLUSTER_LOGS=%q\n' "$LOGS"
  # shellcheck disable=SC2016
  printf 'case ":$PATH:" in *:%q:*) ;; *) export PATH=%q:$PATH ;; esac\n' "$BIN" "$BIN"
)"
