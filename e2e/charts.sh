#!/usr/bin/env bash
# What the chart says with values that change who may do what. Needs helm.
set -euo pipefail
cd "$(dirname "$0")/.."

render() { helm template serin charts/serin --namespace serin-system "$@"; }

fail() {
  echo "charts.sh: $*" >&2
  exit 1
}

# The kinds, names and namespaces of all rights.
rights() { awk '/^---/ {kind = ""; place = ""} /^kind: (Cluster)?Role/ {kind = $2} /^  name:/ {name = $2} /^  namespace:/ {place = $2}
  /^(rules|roleRef):/ {if (kind) print kind, name, place; kind = ""; place = ""}'; }

# The rules of the roles with this name, each role's as one line.
rules_of() { awk -v wanted="$1" '/^---/ {in_rules = 0; if (text) print text; text = ""; name = ""}
  /^  name:/ && !name {name = $2} /^rules:/ {in_rules = (name == wanted); next} /^[a-z]/ {in_rules = 0}
  in_rules && !/^ *#/ && NF {gsub(/^ +/, ""); text = text $0 ";"} END {if (text) print text}'; }

expect() {
  local what=$1 expected=$2 found=$3
  [ "$expected" = "$found" ] || fail "$what"$'\n'"expected:"$'\n'"$expected"$'\n'"found:"$'\n'"$found"
}

everywhere=$(render)
expect "without namespaces: a cluster role, and a role for the lease" \
  $'ClusterRole serin \nClusterRoleBinding serin \nRole serin serin-system\nRoleBinding serin serin-system' \
  "$(rights <<<"$everywhere" | sort)"
! grep -q SERIN_NAMESPACE <<<"$everywhere" || fail "without namespaces there is no SERIN_NAMESPACE"
! grep -q SERIN_CANARY_SELECTOR <<<"$everywhere" || fail "without a selector there is no SERIN_CANARY_SELECTOR"

tenants=$(render --set 'namespaces={shop,serin-system}' --set-string 'canarySelector=tier in (gold\,silver)' \
  --set noCrossNamespaceRefs=true)
expect "with namespaces: a role in each, and nothing in the cluster" \
  "$(printf '%s\n' 'Role serin serin-system' 'RoleBinding serin serin-system' \
    'Role serin-canaries shop' 'RoleBinding serin-canaries shop' \
    'Role serin-canaries serin-system' 'RoleBinding serin-canaries serin-system' | sort)" \
  "$(rights <<<"$tenants" | sort)"
! grep -q 'kind: ClusterRole' <<<"$tenants" || fail "with namespaces something is granted in the cluster"
one=$(rules_of serin <<<"$(render --show-only templates/clusterrole.yaml)")
[ -n "$one" ] || fail "the cluster role has no rules"
expect "the same rules in every namespace" "$one"$'\n'"$one" "$(rules_of serin-canaries <<<"$tenants")"
expect "every binding is Serin's account" 3 \
  "$(grep -A1 'kind: ServiceAccount$' <<<"$tenants" | grep -c '    name: serin$')"
for pair in 'SERIN_NAMESPACE "shop,serin-system"' 'SERIN_CANARY_SELECTOR "tier in (gold,silver)"' \
  'SERIN_NO_CROSS_NAMESPACE_REFS "true"'; do
  grep -A1 "name: ${pair%% *}\$" <<<"$tenants" | grep -qF "value: ${pair#* }" || fail "the environment lacks $pair"
done

none=$(render --set 'namespaces={shop}' --set rbac.create=false)
expect "without rbac.create there are no rights" "" "$(rights <<<"$none")"

for wrong in 'namespaces={Shop}' 'namespaces={shop,shop}' 'namespaces=shop' 'canarySelector=5' 'noCrossNamespaceRefs=yes'; do
  ! render --set "$wrong" >/dev/null 2>&1 || fail "--set $wrong is accepted"
done
