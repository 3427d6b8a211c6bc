{{- define "clusteragent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* The name of the release's objects. Room is left for the longest suffix. */}}
{{- define "clusteragent.fullname" -}}
{{- $name := include "clusteragent.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "clusteragent.selector" -}}
app.kubernetes.io/name: {{ include "clusteragent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* `over`, if given, are labels that the caller adds, and that win. */}}
{{- define "clusteragent.labels" -}}
{{ include "clusteragent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- $over := default dict .over }}
{{- range $key, $value := .Values.commonLabels }}
{{- if not (hasKey $over $key) }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "clusteragent.metadata" -}}
name: {{ include "clusteragent.fullname" . }}{{ .suffix }}
namespace: {{ .Release.Namespace }}
labels: {{- include "clusteragent.labels" . | nindent 2 }}
{{- end }}

{{- define "clusteragent.agentsService" -}}
{{- default (include "clusteragent.fullname" .) .Values.service.agents.name -}}
{{- end }}

{{- define "clusteragent.serviceAccount" -}}
{{- default (ternary (include "clusteragent.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end }}

{{- define "clusteragent.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end }}

{{- define "clusteragent.adminUrl" -}}
{{- if .Values.adminUrl -}}{{ .Values.adminUrl }}
{{- else if and .Values.ingress.enabled .Values.ingress.host -}}https://{{ .Values.ingress.host }}
{{- end -}}
{{- end }}

{{/* What the URL of a paragraph begins with that says what to do: of the documentation that operators reach, else of the repository's. */}}
{{- define "clusteragent.troubleshooting" -}}
{{- $site := "" -}}
{{- with include "clusteragent.adminUrl" . -}}{{- $site = printf "%s/static/docs" . -}}{{- end -}}
{{- with .Values.envDict.CLUSTERAGENT_DOCS_URL -}}{{- $site = trimSuffix "/" . -}}{{- end -}}
{{- if $site -}}{{ $site }}/troubleshooting.html#{{- else -}}docs/troubleshooting.md#{{- end -}}
{{- end }}
