{{/* What a PodMonitor and a ServiceMonitor have in common. */}}
{{- define "stillwake.monitor" -}}
{{- with .Values.metrics -}}
metadata:
  namespace: {{ $.Release.Namespace }}
  name: {{ include "stillwake.fullname" $ }}
  labels:
    {{- merge (include "stillwake.labels" (dict "root" $) | fromYaml) .labels | toYaml | nindent 4 }}
{{- end -}}
{{- end -}}

{{- define "stillwake.monitorEndpoint" -}}
{{- with .Values.metrics -}}
port: admin
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
{{- end -}}
