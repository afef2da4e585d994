{{/*
What all objects' names begin with. The longest of them that has to be a DNS label adds 11 characters to it, so that 52
are left; what would be cut off, or is no part of a label, goes into a hash, so that two releases never share a name.
*/}}
{{- define "stillwake.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $wanted := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $label := replace "." "-" $wanted -}}
{{- if or (ne $label $wanted) (gt (len $label) 52) -}}
{{- printf "%s-%s" ($label | trunc 43 | trimSuffix "-") (sha256sum $wanted | trunc 8) -}}
{{- else -}}
{{- $label -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Labels that tell the pods of one component, given as (dict "root" $ "component" NAME), or all of the release's without a
component. They cannot be changed later.
*/}}
{{- define "stillwake.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object, given as above. */}}
{{- define "stillwake.labels" -}}
{{- $own := include "stillwake.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- $_ := set $own "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_") -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- merge $own .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Name and labels of an object without a namespace, given as above with a suffix of the name. */}}
{{- define "stillwake.clusterMetadata" -}}
name: {{ include "stillwake.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
labels:
  {{- include "stillwake.labels" . | nindent 2 }}
{{- end -}}

{{/* The same in the release's namespace. */}}
{{- define "stillwake.metadata" -}}
namespace: {{ .root.Release.Namespace }}
{{ include "stillwake.clusterMetadata" . }}
{{- end -}}

{{/* The components that there are, with a space between. */}}
{{- define "stillwake.components" -}}
webhook aggregator{{ if .Values.activator.enabled }} activator{{ end }}
{{- end -}}

{{/* An image, given as (dict "root" $ "image" VALUES). */}}
{{- define "stillwake.image" -}}
{{- $name := .image.repository -}}
{{- with .image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- with .image.digest -}}
{{- printf "%s@%s" $name . -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The name of a component's ServiceAccount. */}}
{{- define "stillwake.serviceAccountName" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- $account.name | default (printf "%s-%s" (include "stillwake.fullname" .root) .component) -}}
{{- end -}}

{{/* The name of the PriorityClass of all pods. The value is a part of it, as it cannot be changed in an object. */}}
{{- define "stillwake.priorityClassName" -}}
{{- with .Values.priorityClass -}}
{{- if .name -}}
{{- .name -}}
{{- else if .create -}}
{{- printf "%s-%d" (include "stillwake.fullname" $) (int64 .value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret that a component reads its certificate from, where we sign none ourselves. */}}
{{- define "stillwake.certificateSecret" -}}
{{- if eq .root.Values.certificates.mode "cert-manager" -}}
{{- printf "%s-%s-certificate" (include "stillwake.fullname" .root) .component -}}
{{- else -}}
{{- get .root.Values.certificates.secret .component -}}
{{- end -}}
{{- end -}}

{{/* "true" where the webhook writes the authorities into its configuration. */}}
{{- define "stillwake.publishesAuthorities" -}}
{{- with .Values.certificates -}}
{{- if or (eq .mode "self") (and (eq .mode "secret") .secret.publishAuthorities) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* What ScaledObjects name. */}}
{{- define "stillwake.scalerAddress" -}}
{{- printf "%s-aggregator.%s:9090" (include "stillwake.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/*
Where sidecars and activators report, as a host and a port. The dot at the end spares each of them six of eight questions
to the name server.
*/}}
{{- define "stillwake.reportsAddress" -}}
{{- $domain := trimSuffix "." .Values.clusterDomain -}}
{{- printf "%s-reports.%s.svc.%s.:9091" (include "stillwake.fullname" .) .Release.Namespace $domain -}}
{{- end -}}

{{/* Where sidecars of pods that go away hand over connections. */}}
{{- define "stillwake.relayAddress" -}}
{{- $domain := trimSuffix "." .Values.clusterDomain -}}
{{- printf "%s-activator.%s.svc.%s.:9092" (include "stillwake.fullname" .) .Release.Namespace $domain -}}
{{- end -}}

{{/* A Deployment up to its pods, given as (dict "root" $ "component" NAME). */}}
{{- define "stillwake.deployment" -}}
replicas: {{ (get .root.Values .component).replicas }}
strategy:
  rollingUpdate:
    maxUnavailable: 0
    maxSurge: 1
selector:
  matchLabels:
    {{- include "stillwake.selectorLabels" . | nindent 4 }}
{{- end -}}

{{/* Labels and annotations of a component's pods, without those that change with the chart: they would restart them. */}}
{{- define "stillwake.podMetadata" -}}
{{- $values := get .root.Values .component -}}
labels:
  {{- merge (include "stillwake.selectorLabels" . | fromYaml) $values.podLabels .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A component's pod without its containers and volumes. */}}
{{- define "stillwake.pod" -}}
{{- $values := get .root.Values .component -}}
serviceAccountName: {{ include "stillwake.serviceAccountName" . }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with include "stillwake.priorityClassName" .root }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
# The process goes on for drainDelay after SIGTERM, and has the rest for what is under way.
{{- $rest := 30 }}
{{- with $values.hold }}
{{- $rest = add (trimSuffix "s" .timeout | int) 40 }}
{{- end }}
terminationGracePeriodSeconds: {{ add (trimSuffix "s" .root.Values.drainDelay | int) $rest }}
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.runAsUser }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $labels := include "stillwake.selectorLabels" . | fromYaml -}}
{{- $constraints := list -}}
{{- range ternary list $values.topologySpreadConstraints (eq (get $values "kind") "DaemonSet") -}}
{{- $own := dict "labelSelector" (dict "matchLabels" $labels) "matchLabelKeys" (list "pod-template-hash") -}}
{{- $constraints = append $constraints (ternary . (merge $own .) (hasKey . "labelSelector")) -}}
{{- end -}}
{{- with $constraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
A component's container without its arguments, ports and mounts. Takes variables of the environment that are fields of the
pod, beside those that all have, as "fields".
*/}}
{{- define "stillwake.container" -}}
{{- $values := get .root.Values .component -}}
{{- $fields := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" -}}
image: {{ include "stillwake.image" (dict "root" .root "image" .root.Values.image) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
{{- range $name, $field := merge $fields (.fields | default dict) }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $field }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
livenessProbe:
  httpGet:
    path: /live
    port: admin
  periodSeconds: 10
readinessProbe:
  httpGet:
    path: /ready
    port: admin
  periodSeconds: 5
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Arguments that all components take. */}}
{{- define "stillwake.commonArguments" -}}
- "--admin=[::]:9900"
- {{ printf "--cluster-domain=%s" .root.Values.clusterDomain | quote }}
{{- range .root.Values.watchNamespaces }}
- {{ printf "--watch-namespace=%s" . | quote }}
{{- end }}
- {{ printf "--log=%s" .root.Values.log.filter | quote }}
- {{ printf "--log-format=%s" .root.Values.log.format | quote }}
- {{ printf "--drain-delay=%s" .root.Values.drainDelay | quote }}
{{- end -}}

{{/* Arguments of those that serve TLS. */}}
{{- define "stillwake.certificateArguments" -}}
{{- if eq .root.Values.certificates.mode "self" -}}
- {{ printf "--authorities-secret=%s-authorities" (include "stillwake.fullname" .root) | quote }}
{{- /* The same for both: each counts on how long the other's certificates live. */}}
{{- with .root.Values.certificates.self }}
- {{ printf "--authority-lifetime=%s" .authorityLifetime | quote }}
- {{ printf "--leaf-lifetime=%s" .leafLifetime | quote }}
- {{ printf "--settle=%s" .settle | quote }}
- {{ printf "--clock-skew=%s" .clockSkew | quote }}
{{- end }}
{{- else -}}
- {{ printf "--certificate-secret=%s" (include "stillwake.certificateSecret" .) | quote }}
{{- end -}}
{{- end -}}

{{/* Binds a role, given as (dict "root" $ "component" NAME "kind" KIND "role" NAME), to the component. */}}
{{- define "stillwake.binding" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .role }}
subjects:
- kind: ServiceAccount
  name: {{ include "stillwake.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}
