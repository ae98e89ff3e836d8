{{/* The name of the application, as the label has it. */}}
{{- define "serin.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* The name of every object, the lease included. 63 characters: it is a Service's name, too. */}}
{{- define "serin.fullname" -}}
{{- $name := include "serin.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* What selects the pods. A selector cannot be changed later, so no version is in it. */}}
{{- define "serin.selectorLabels" -}}
app.kubernetes.io/name: {{ include "serin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "serin.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "serin.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: controller
app.kubernetes.io/part-of: serin
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "serin.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "serin.fullname" .) -}}
{{- end }}

{{/* The image; a digest, when there is one, decides. */}}
{{- define "serin.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{/* The alerts whose addresses are secret: the value, which is the key in the Secret, too, and its environment. */}}
{{- define "serin.secretAlerts" -}}
slackUrl: SERIN_SLACK_URL
slackToken: SERIN_SLACK_TOKEN
msteamsUrl: SERIN_MSTEAMS_URL
webhookUrl: SERIN_ALERT_WEBHOOK_URL
eventSink: SERIN_EVENT_SINK
{{- end }}

{{/* The data of the Secret that the chart makes; empty when nothing is secret, or when there is one already. */}}
{{- define "serin.alertsData" -}}
{{- $data := dict -}}
{{- range $key, $_ := include "serin.secretAlerts" . | fromYaml -}}
{{- with get $.Values.alerts $key -}}
{{- $_ := set $data $key (b64enc .) -}}
{{- end -}}
{{- end -}}
{{- if and $data (not .Values.alerts.existingSecret) -}}
{{- toYaml $data -}}
{{- end -}}
{{- end }}

{{/* The environment that the values stand for. `serin run` reads nothing else from the chart. */}}
{{- define "serin.env" -}}
- name: SERIN_LISTEN
  value: "0.0.0.0:8080"
- name: SERIN_METRICS_SERVER
  value: {{ .Values.metricsServer | quote }}
- name: SERIN_MESH_PROVIDER
  value: {{ .Values.provider | quote }}
- name: SERIN_GATEWAY_METRICS
  value: {{ .Values.gatewayMetrics | quote }}
- name: SERIN_SELECTOR_LABELS
  value: {{ .Values.selectorLabels | join "," | quote }}
- name: SERIN_INCLUDE_LABEL_PREFIX
  value: {{ .Values.includeLabelPrefix | join "," | quote }}
- name: SERIN_DRAIN_DELAY
  value: {{ .Values.drainDelay | quote }}
- name: SERIN_ROUTE_GRACE_PERIOD
  value: {{ .Values.routeGracePeriod | quote }}
- name: SERIN_QUERY_TIMEOUT
  value: {{ .Values.queryTimeout | quote }}
- name: SERIN_ENABLE_CONFIG_TRACKING
  value: {{ .Values.configTracking.enabled | quote }}
- name: SERIN_CONCURRENCY
  value: {{ .Values.concurrency | int | quote }}
- name: SERIN_API_CONCURRENCY
  value: {{ .Values.apiConcurrency | int | quote }}
- name: SERIN_QUERY_CONCURRENCY
  value: {{ .Values.queryConcurrency | int | quote }}
- name: SERIN_WEBHOOK_CONCURRENCY
  value: {{ .Values.webhookConcurrency | int | quote }}
{{- with .Values.allowedEgress }}
- name: SERIN_ALLOWED_EGRESS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.namespaces }}
- name: SERIN_NAMESPACE
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.canarySelector }}
- name: SERIN_CANARY_SELECTOR
  value: {{ . | quote }}
{{- end }}
- name: SERIN_NO_CROSS_NAMESPACE_REFS
  value: {{ .Values.noCrossNamespaceRefs | quote }}
{{- with .Values.alerts.clusterName }}
- name: SERIN_CLUSTER_NAME
  value: {{ . | quote }}
{{- end }}
{{- with .Values.alerts.slackChannel }}
- name: SERIN_SLACK_CHANNEL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.alerts.slackUser }}
- name: SERIN_SLACK_USER
  value: {{ . | quote }}
{{- end }}
{{- $alerts := .Values.alerts -}}
{{- $secret := $alerts.existingSecret | default (printf "%s-alerts" (include "serin.fullname" . | trunc 56 | trimSuffix "-")) -}}
{{- range $key, $name := include "serin.secretAlerts" . | fromYaml }}
{{- if or $alerts.existingSecret (get $alerts $key) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
      optional: true
{{- end }}
{{- end }}
- name: SERIN_LOG
  value: {{ .Values.logLevel | quote }}
- name: SERIN_LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
- name: SERIN_LEASE_NAME
  value: {{ include "serin.fullname" . | quote }}
- name: SERIN_LEASE_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: SERIN_IDENTITY
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{/* One endpoint of a ServiceMonitor or PodMonitor. */}}
{{- define "serin.scrape" -}}
- port: http
  path: /metrics
  {{- with .interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
{{- end }}

{{/* The port of metricsServer: what the address says, else that of its scheme. */}}
{{- define "serin.metricsServerPort" -}}
{{- $url := urlParse .Values.metricsServer -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $port | default (eq $url.scheme "https" | ternary "443" "80") -}}
{{- end }}

{{/* What a schema cannot say: values that only together make no sense. */}}
{{- define "serin.validate" -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: name the account that is there, because serviceAccount.create is false; Serin's rights are not given to the account `default`" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.service.enabled) -}}
{{- fail "serviceMonitor.enabled: a ServiceMonitor finds its pods by the service; set service.enabled, or use podMonitor.enabled" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- fail "podMonitor.enabled: with serviceMonitor.enabled every pod would be scraped twice; choose one of the two" -}}
{{- end -}}
{{- if and .Values.networkPolicy.egress (not .Values.networkPolicy.restrictEgress) -}}
{{- fail "networkPolicy.egress: these rules do nothing as long as networkPolicy.restrictEgress is false" -}}
{{- end -}}
{{- range $key, $_ := include "serin.secretAlerts" . | fromYaml -}}
{{- if and $.Values.alerts.existingSecret (get $.Values.alerts $key) -}}
{{- fail (printf "alerts.%s: with alerts.existingSecret it belongs into that Secret, in the key %s" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.alerts.slackToken (not .Values.alerts.slackChannel) -}}
{{- fail "alerts.slackChannel: a bot with a token needs to know where to speak; write for example releases" -}}
{{- end -}}
{{- $still := list "0" "0%" -}}
{{- if and (has (toString .Values.rollingUpdate.maxSurge) $still) (has (toString .Values.rollingUpdate.maxUnavailable) $still) -}}
{{- fail "rollingUpdate: with maxSurge and maxUnavailable both zero no pod could ever be replaced" -}}
{{- end -}}
{{- $own := dict -}}
{{- range include "serin.env" . | fromYamlArray -}}
{{- $_ := set $own .name true -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $own .name -}}
{{- fail (printf "extraEnv: %s is there twice, or is set by the chart: then use the value that stands for it" .name) -}}
{{- end -}}
{{- $_ := set $own .name true -}}
{{- end -}}
{{- end }}
