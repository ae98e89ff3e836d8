#!/usr/bin/env bash
# Brings up a single-node cluster with gateway and Prometheus as host processes; what already runs is left alone.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

OPENSSL_KEY=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
SYSCTLS=(net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables vm.overcommit_memory kernel.panic kernel.panic_on_oops)

# ---- identity: certificates, tokens, kubeconfigs

certificate() {
  local name=$1 subject=$2 alternatives=${3:-}
  openssl req "${OPENSSL_KEY[@]}" -keyout "$name.key" -out "$name.csr" -subj "$subject"
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$name.crt" \
    -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s\n' "${alternatives:+subjectAltName=$alternatives}")
}

make_pki() {
  mkdir -p "$RUN/pki"
  cd "$RUN/pki"
  openssl req -x509 "${OPENSSL_KEY[@]}" -days 3650 -keyout ca.key -out ca.crt -subj /CN=serin-e2e
  certificate apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$NODE_ADDRESS,IP:$KUBERNETES_ADDRESS"
  certificate kubelet-server "/CN=$NODE_NAME" "DNS:$NODE_NAME,IP:$NODE_ADDRESS,IP:127.0.0.1"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver
  openssl genrsa -out service-accounts.key 2048
  openssl rsa -in service-accounts.key -pubout -out service-accounts.pub
}

# identity FILE USER [GROUP] [SERVER] makes a token for a user and the kubeconfig that carries it.
identity() {
  local file=$1 user=$2 group=${3:-} server=${4:-$API_URL} token
  token=$(openssl rand -hex 16)
  echo "$token,$user,$user${group:+,\"$group\"}" >>"$RUN/pki/tokens.csv"
  printf '%s' "$token" >"$RUN/pki/$file.token"
  cat >"$RUN/$file.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: serin-e2e, cluster: {server: "$server", certificate-authority-data: $(base64 -w0 "$RUN/pki/ca.crt")}}]
users: [{name: $file, user: {token: $token}}]
contexts: [{name: serin-e2e, context: {cluster: serin-e2e, user: $file}}]
current-context: serin-e2e
EOF
}

make_identities() {
  umask 077
  make_pki
  : >"$RUN/pki/tokens.csv"
  identity admin admin system:masters
  identity controller-manager system:kube-controller-manager
  identity scheduler system:kube-scheduler
  identity kubelet "system:node:$NODE_NAME" system:nodes
  identity kube-proxy system:kube-proxy
  identity prometheus prometheus
  identity dns dns
  identity traefik traefik "" "https://127.0.0.1:$PROXY_PORT"
  touch "$RUN/pki/complete"
}

# ---- the machine

# The bridge exists before the first pod does: its address is that of the node, the API server, DNS and Prometheus.
prepare_machine() {
  local name
  mkdir -p "$SOCKETS" "$MEMORY"
  [ -f "$RUN/sysctls" ] || for name in "${SYSCTLS[@]}"; do sysctl -e "$name"; done >"$RUN/sysctls"
  if ! ip link show serin0; then
    ip link add serin0 type bridge
    ip address add "$NODE_ADDRESS/24" dev serin0
    ip link set serin0 up
  fi
  sysctl -w net.ipv4.ip_forward=1 vm.overcommit_memory=1 kernel.panic=10 kernel.panic_on_oops=1
  sysctl -ew net.bridge.bridge-nf-call-iptables=1
}

# ---- control plane

start_etcd() {
  spawn etcd etcd --name serin --data-dir "$MEMORY/etcd" --log-level warn --logger zap --auto-compaction-retention 10m \
    --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-cluster "serin=http://127.0.0.1:$((ETCD_PORT + 1))"
}

start_apiserver() {
  local pki=$RUN/pki
  touch "$LOGS/audit.log"
  cp "$CLUSTER_SOURCE/manifests/audit-policy.yaml" "$RUN/audit-policy.yaml"
  spawn kube-apiserver kube-apiserver --v=1 --profiling=false --allow-privileged=true --anonymous-auth=true \
    --etcd-servers="http://127.0.0.1:$ETCD_PORT" --endpoint-reconciler-type=lease \
    --bind-address="$NODE_ADDRESS" --advertise-address="$NODE_ADDRESS" --secure-port=6443 --service-cluster-ip-range="$SERVICE_RANGE" \
    --authorization-mode=Node,RBAC --token-auth-file="$pki/tokens.csv" --client-ca-file="$pki/ca.crt" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-signing-key-file="$pki/service-accounts.key" --service-account-key-file="$pki/service-accounts.pub" \
    --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
    --kubelet-preferred-address-types=InternalIP --feature-gates=EndpointSliceTerminatingCondition=true \
    --audit-policy-file="$RUN/audit-policy.yaml" --audit-log-path="$LOGS/audit.log" --audit-log-maxsize=1000
}

start_controllers() {
  local config=$RUN/controller-manager.kubeconfig pki=$RUN/pki
  spawn kube-controller-manager kube-controller-manager --v=1 --kubeconfig="$config" --authentication-kubeconfig="$config" \
    --authorization-kubeconfig="$config" --leader-elect=false --port=0 --secure-port=0 --kube-api-qps=500 --kube-api-burst=1000 \
    --use-service-account-credentials=true --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --node-monitor-period=2s --horizontal-pod-autoscaler-sync-period=2s --namespace-sync-period=5s --concurrent-gc-syncs=20 \
    --endpoint-updates-batch-period=0s --endpointslice-updates-batch-period=0s --feature-gates=EndpointSliceTerminatingCondition=true
  config=$RUN/scheduler.kubeconfig
  spawn kube-scheduler kube-scheduler --v=1 --kubeconfig="$config" --authentication-kubeconfig="$config" \
    --authorization-kubeconfig="$config" --leader-elect=false --port=0 --secure-port=0
}

# ---- node

configure_node() {
  mkdir -p "$RUN/cni" "$RUN/registries/_default" "$RUN/containerd" "$RUN/kubelet"
  # An image that was not imported fails at once, on loopback; one of docker.io after a look-up of its name.
  echo 'server = "http://127.0.0.1:1"' >"$RUN/registries/_default/hosts.toml"
  # Pods get a route to Services and none to the world.
  cat >"$RUN/cni/10-serin.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "serin", "plugins": [{
  "type": "bridge", "bridge": "serin0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$SOCKETS/cni", "ranges": [[{"subnet": "$POD_RANGE"}]], "routes": [{"dst": "$SERVICE_RANGE"}]}
}]}
EOF
  # The machine may not lower out-of-memory scores, hence restrict_oom_score_adj here and the zeros for the kubelet and kube-proxy.
  cat >"$RUN/containerd.toml" <<EOF
version = 2
root = "$RUN/containerd"
state = "$SOCKETS/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$SOCKETS/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "/usr/sbin/runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$RUN/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
EOF
  cat >"$RUN/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_ADDRESS
healthzPort: 0
cgroupDriver: cgroupfs
failSwapOn: false
oomScoreAdj: 0
maxPods: 200
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $RUN/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
tlsCertFile: $RUN/pki/kubelet-server.crt
tlsPrivateKeyFile: $RUN/pki/kubelet-server.key
resolvConf: ""
clusterDNS: [$NODE_ADDRESS]
clusterDomain: cluster.local
syncFrequency: 10s
nodeStatusUpdateFrequency: 1s
nodeStatusReportFrequency: 30s
volumeStatsAggPeriod: 5m
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
enforceNodeAllocatable: [pods]
serializeImagePulls: false
kubeAPIQPS: 200
kubeAPIBurst: 400
eventRecordQPS: 100
eventBurst: 200
EOF
  cat >"$RUN/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $RUN/kube-proxy.kubeconfig}
hostnameOverride: $NODE_NAME
bindAddress: $NODE_ADDRESS
healthzBindAddress: $NODE_ADDRESS:10256
metricsBindAddress: $NODE_ADDRESS:10249
clusterCIDR: $POD_RANGE
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {syncPeriod: 30s, minSyncPeriod: 0s}
EOF
}

import_pause() { ctr -a "$SOCKETS/containerd.sock" -n k8s.io images import "$INSTALL/images/pause.tar"; }

start_node() {
  local endpoint=unix://$SOCKETS/containerd.sock
  # Without the variable the kubelet asks a cloud's metadata address and waits five seconds for it.
  spawn kubelet env AWS_EC2_METADATA_DISABLED=true kubelet --v=1 --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.kubeconfig" \
    --root-dir="$RUN/kubelet" --hostname-override="$NODE_NAME" --node-ip="$NODE_ADDRESS" \
    --container-runtime=remote --container-runtime-endpoint="$endpoint" --image-service-endpoint="$endpoint"
  spawn kube-proxy kube-proxy --v=1 --config="$RUN/kube-proxy.yaml"
}

start_dns() {
  touch "$RUN/dns.hosts"
  spawn dnsmasq dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --addn-hosts="$RUN/dns.hosts" \
    --local=/#/ --listen-address="$NODE_ADDRESS" --bind-interfaces --port=53 --user=root --pid-file= --log-facility=-
  spawn dns-feed python3 "$CLUSTER_SOURCE/dns_feed.py" "$API_URL" "$RUN/pki/ca.crt" "$RUN/pki/dns.token" "$RUN/dns.hosts" "$PIDS/dnsmasq"
}

# ---- gateway and metrics

apply_definitions() {
  local definitions=$INSTALL/manifests/gateway-api.json
  # Creating is the quicker way; after an interrupted start some exist already.
  kubectl create --validate=false -f "$definitions" || kubectl apply --server-side --force-conflicts --validate=false -f "$definitions"
  kubectl apply --validate=false -f "$CLUSTER_SOURCE/manifests/base.yaml" -f "$CLUSTER_SOURCE/manifests/keda.yaml"
  kubectl wait --for=condition=Established crd --all --timeout=30s
}

apply_gateway() { kubectl apply --validate=false -f "$CLUSTER_SOURCE/manifests/gateway.yaml"; }

start_gateway() {
  spawn discovery-proxy python3 "$CLUSTER_SOURCE/discovery_proxy.py" "$PROXY_PORT" "$API_URL" "$RUN/pki/ca.crt" \
    "$RUN/pki/apiserver.crt" "$RUN/pki/apiserver.key"
  WAIT_LOG=$LOGS/discovery-proxy.log wait_for "discovery proxy serves" 10 healthy discovery-proxy
  spawn traefik env KUBECONFIG="$RUN/traefik.kubeconfig" traefik --global.checknewversion=false --global.sendanonymoususage=false \
    --log.level=INFO --log.nocolor=true --accesslog=false --ping=true --api=true --api.insecure=true \
    --entrypoints.web.address="127.0.0.1:$GATEWAY_PORT" --entrypoints.traefik.address="127.0.0.1:$GATEWAY_METRICS_PORT" \
    --providers.kubernetesgateway=true --providers.kubernetesgateway.statusaddress.ip=127.0.0.1 --providers.providersthrottleduration=100ms \
    --metrics.prometheus=true --metrics.prometheus.addentrypointslabels=true --metrics.prometheus.addrouterslabels=true \
    --metrics.prometheus.addserviceslabels=true --metrics.prometheus.buckets=0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10
}

start_prometheus() {
  cat >"$RUN/prometheus.yaml" <<EOF
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
scrape_configs:
- job_name: traefik
  static_configs: [{targets: ["127.0.0.1:$GATEWAY_METRICS_PORT"]}]
- job_name: pods
  kubernetes_sd_configs:
  - role: pod
    api_server: $API_URL
    authorization: {credentials_file: $RUN/pki/prometheus.token}
    tls_config: {ca_file: $RUN/pki/ca.crt}
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true", action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Pending|Succeeded|Failed, action: drop}
  - {source_labels: [__meta_kubernetes_pod_container_init], regex: "true", action: drop}
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], regex: (.+), target_label: __metrics_path__}
  - source_labels: [__meta_kubernetes_pod_ip, __meta_kubernetes_pod_annotation_prometheus_io_port]
    regex: (.+);(\d+)
    replacement: \$1:\$2
    target_label: __address__
  - {regex: __meta_kubernetes_pod_label_(.+), action: labelmap}
  - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
EOF
  spawn prometheus prometheus --config.file="$RUN/prometheus.yaml" --storage.tsdb.path="$MEMORY/prometheus" \
    --storage.tsdb.retention.time=6h --web.listen-address="$NODE_ADDRESS:$PROMETHEUS_PORT" --web.enable-lifecycle --log.level=warn
}

# ---- checks

service_account_ready() { kubectl get serviceaccount default -o jsonpath='{.secrets[0].name}' | grep -q token; }
node_ready() { kubectl get node "$NODE_NAME" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -q True; }
dns_serves() { grep -q prometheus.monitoring "$RUN/dns.hosts"; }
gateway_programmed() {
  kubectl -n gateway-system get gateway gateway -o jsonpath='{.status.conditions[?(@.type=="Programmed")].status}' | grep -q True
}

# ready NAME SECONDS waits for a process, with its log at hand.
ready() { WAIT_LOG=$LOGS/$1.log wait_for "$1 serves" "$2" healthy "$1"; }

start_cluster() {
  [ -f "$RUN/pki/complete" ] || step "make certificates and tokens" make_identities
  step "prepare bridge and kernel settings" prepare_machine
  start_etcd
  start_apiserver
  step "write the node's configuration" configure_node
  spawn containerd containerd --config "$RUN/containerd.toml"
  ready etcd 20
  ready containerd 20
  [ -f "$RUN/applied" ] || step "import the sandbox image" import_pause
  ready kube-apiserver 60
  start_controllers
  start_node
  [ -f "$RUN/applied" ] || step "create Gateway API definitions, rights and namespaces" apply_definitions
  start_dns
  start_gateway
  [ -f "$RUN/applied" ] || step "create the Gateway" apply_gateway
  start_prometheus
  touch "$RUN/applied"
}

await_cluster() {
  local name
  WAIT_LOG=$LOGS/kube-controller-manager.log wait_for "default service account has its token" 30 service_account_ready
  WAIT_LOG=$LOGS/kubelet.log wait_for "node is Ready" 60 node_ready
  ready kube-proxy 20
  ready traefik 20
  ready prometheus 20
  WAIT_LOG=$LOGS/dns-feed.log wait_for "DNS knows the Services" 20 dns_serves
  WAIT_LOG=$LOGS/traefik.log wait_for "the Gateway is programmed" 30 gateway_programmed
  for name in $(spawned); do running "$name" || fail "$name has ended: see $LOGS/$name.log"; done
}

[ "$(id -u)" = 0 ] || fail "up.sh needs root: it makes a bridge and runs containers"
[ -e "$INSTALLED" ] && [ -x /usr/sbin/runc ] || "$CLUSTER_SOURCE/install.sh"
begin=$(now_ms)
mkdir -p "$RUN"
exec 9>"$RUN/../run.lock"
flock -w 300 9 || fail "another up.sh or down.sh has been at work for 5 minutes"
# Without etcd there is no cluster: what an earlier one left behind goes first.
if ! running etcd && [ -e "$RUN/commands" ]; then
  LOCKED=1 "$CLUSTER_SOURCE/down.sh"
fi
mkdir -p "$PIDS" "$LOGS"
start_cluster
await_cluster
say "cluster is up after $(($(now_ms) - begin)) ms; next: source $CLUSTER_SOURCE/env.sh"
