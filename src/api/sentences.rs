//! What is said of a mistake: by the rules of the CRD at apply time, and by [`super::plan`] where the API server knows
//! no rules. One text for both.

pub(super) const PROVIDER: &str = "Serin moves traffic with the Gateway API or with Services alone; write gatewayapi:v1 \
     (Istio, Linkerd, Kuma, Contour, Gloo, NGINX, Traefik and APISIX implement it), gatewayapi:v1beta1, or kubernetes for \
     blue/green without a gateway";
pub(super) const TARGET_VERSION: &str = "write apiVersion apps/v1 for a Deployment or DaemonSet, and v1 for a Service; a Knative Service rolls out by itself";
pub(super) const TARGET_SERVICE: &str = "a Service as target needs a route between its two versions, which provider kubernetes has not; write gatewayapi:v1";
pub(super) const SERVICE_NAME: &str =
    "with a Service as target all names come from it; leave service.name out, or write the target's name";
pub(super) const SCALER_KIND: &str = "write HorizontalPodAutoscaler (of autoscaling/v2) or ScaledObject (of KEDA)";
pub(super) const SCALER_TARGET: &str = "only a Deployment has an autoscaler; leave autoscalerRef out";
pub(super) const SCALER_QUERIES: &str =
    "primaryScalerQueries are queries of a ScaledObject; a HorizontalPodAutoscaler has none, so leave them out";
pub(super) const SCALER_REPLICAS: &str = "minReplicas must not be above maxReplicas";
pub(super) const INGRESS_REF: &str = "Serin splits no Ingress; write service.gatewayRefs, and have the gateway serve an \
     HTTPRoute in the Ingress's place";
pub(super) const ROUTE_REF: &str =
    "Serin splits no ApisixRoute; write service.gatewayRefs: APISIX serves HTTPRoutes of the Gateway API";
pub(super) const UPSTREAM_REF: &str =
    "Serin makes no Gloo Upstreams; write service.gatewayRefs: Gloo serves HTTPRoutes of the Gateway API";
pub(super) const CANARY_ANALYSIS: &str = "canaryAnalysis is the old name; write analysis";

pub(super) const GATEWAYS: &str = "these are Istio's gateways; write gatewayRefs with Gateways of the Gateway API, for \
     example [{name: public-gateway, namespace: istio-system}]";
pub(super) const DELEGATION: &str =
    "an HTTPRoute delegates to nobody; leave delegation out, and write in gatewayRefs what the route belongs to";
pub(super) const TRAFFIC_POLICY: &str = "this goes into an Istio DestinationRule, which Serin does not make; leave it out, \
     and write a DestinationRule of your own for each of the Services -primary and -canary";
pub(super) const MESH_NAME: &str = "Serin does not know App Mesh; leave meshName out, and write gatewayRefs";
pub(super) const BACKENDS: &str = "Serin does not know App Mesh; leave backends out, and write gatewayRefs";
pub(super) const RETRIES: &str = "the Gateway API's retries are experimental; leave retries out, and write the retries \
     that your gateway offers in a policy of its own, or in an HTTPRoute that you keep yourself";
pub(super) const HOSTS: &str = "to answer to every host, leave hosts out";
pub(super) const BACKEND_TIMEOUT: &str = "backendTimeout must not be above timeout";
pub(super) const REWRITE: &str = "write uri, authority or both";
pub(super) const REWRITE_URI: &str = "a rewritten path begins with /; write for example uri: /";
pub(super) const REWRITE_TYPE: &str = "type says how uri is used; write uri too";
pub(super) const REWRITE_PREFIX: &str = "ReplacePrefixMatch replaces the prefix that one match found; write exactly one \
     match, with uri: {prefix: …}, or none for /";
pub(super) const MIRROR_PORT: &str = "a Service needs a port; write backendRef.port";
pub(super) const ALLOW_ORIGIN: &str = "allowOrigin is the old name; write allowOrigins: [{exact: …}]";
pub(super) const ALLOW_ORIGINS: &str = "the Gateway API knows whole origins only; write exact, for example {exact: \
     https://shop.example.com} or {exact: https://*.example.com}";

pub(super) const STRING_MATCH: &str = "write exactly one of exact, prefix, suffix and regex";
pub(super) const PATH: &str = "a path begins with /; write for example {prefix: /}";
pub(super) const METHOD: &str = "an HTTPRoute compares methods as a whole; write for example {exact: GET}";
pub(super) const SCHEME: &str = "an HTTPRoute does not look at the scheme; name the Gateway's listener for http or https \
     in gatewayRefs[].sectionName";
pub(super) const AUTHORITY: &str = "an HTTPRoute has its host names in one place; write service.hosts";
pub(super) const MATCH_PORT: &str = "an HTTPRoute does not look at the port; write it in gatewayRefs[].port";
pub(super) const MATCH_GATEWAYS: &str = "an HTTPRoute has its gateways in one place; write service.gatewayRefs";
pub(super) const IGNORE_URI_CASE: &str =
    "an HTTPRoute compares letters as they are; write uri: {regex: (?i)…} if your gateway knows it";
pub(super) const WITHOUT_HEADERS: &str = "an HTTPRoute cannot ask that a header be absent; leave withoutHeaders out, and \
     write an HTTPRoute of your own with a rule for these requests";
pub(super) const SOURCE_LABELS: &str =
    "a gateway does not see the labels of the pod that asks; write headers or queryParams";
pub(super) const SOURCE_NAMESPACE: &str =
    "a gateway does not see the namespace of the pod that asks; write headers or queryParams";

pub(super) const STRATEGY: &str = "analysis needs a strategy; write one of stepWeight (for example 10), stepWeights (for \
     example [10, 30, 60]) and iterations (for example 10)";
pub(super) const STRATEGIES: &str =
    "write only one of stepWeight, stepWeights and iterations: either weights that rise, or a number of checks";
pub(super) const MAX_WEIGHT: &str = "maxWeight goes with stepWeight; with stepWeights the last element is the maximum, and \
     with iterations there is none, so leave maxWeight out";
pub(super) const MATCH: &str = "match chooses the requests of an A/B test; write iterations with it (for example 10), in \
     place of stepWeight and stepWeights";
pub(super) const MATCH_EMPTY: &str =
    "write headers or queryParams in each entry of match; an empty one would be everyone";
pub(super) const MIRROR_MATCH: &str =
    "mirror sends a copy of every request to the canary, match chooses some requests for it; write only one of the two";
pub(super) const MIRROR_WEIGHT: &str =
    "mirrorWeight is the share of requests that mirror copies; write mirror: true too";
pub(super) const AFFINITY: &str = "sessionAffinity keeps clients on the version that a weight gave them; write stepWeight or \
     stepWeights with it, in place of iterations";
pub(super) const COOKIES: &str = "cookieName and primaryCookieName must differ";
pub(super) const COOKIE_NAME: &str = "a cookie's name has letters, digits and !#$%&'*+-.^_`|~ only";
pub(super) const COOKIE_TEXT: &str = "a cookie's domain and path have neither spaces nor semicolons";
pub(super) const COOKIE_SECURE: &str = "browsers accept sameSite: None and partitioned only on secure cookies; write \
     secure: true too";
pub(super) const SWITCH_TRAFFIC: &str = "switchTraffic moves the app's Service, which a gateway does not look at; write provider kubernetes, or leave it out";
pub(super) const KUBERNETES_WEIGHTS: &str = "provider kubernetes has no route to split; write iterations (for example 10) \
     in place of stepWeight and stepWeights";
pub(super) const KUBERNETES_ANALYSIS: &str = "provider kubernetes has no route; leave match, mirror, sessionAffinity and \
     stepWeightPromotion out, or write provider gatewayapi:v1";
pub(super) const KUBERNETES_SERVICE: &str = "provider kubernetes has no route; leave gatewayRefs, hosts, match, timeout, \
     backendTimeout, rewrite, headers, mirror and corsPolicy out of service, or write provider gatewayapi:v1";
pub(super) const WEBHOOK_NAMES: &str = "give each webhook a name of its own";
pub(super) const WEBHOOK_URL: &str = "write the URL with its scheme, for example http://load-tester.test/gate/check";
pub(super) const WEBHOOK_TIMEOUT: &str = "timeout must be from 1ms to 1h, for example 10s";

pub(super) const TEMPLATE_TYPE: &str = "Serin asks Prometheus, and whatever has its query API (Thanos, Mimir, \
     VictoriaMetrics, managed Prometheus of the clouds); write type prometheus";
pub(super) const TEMPLATE_ADDRESS: &str = "write the address, for example http://prometheus.monitoring:9090";
pub(super) const TEMPLATE_REGION: &str = "region is for CloudWatch, which Serin does not ask; leave it out";
