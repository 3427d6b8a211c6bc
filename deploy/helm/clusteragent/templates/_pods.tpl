{{/* The environment of a pod: what the chart sets, unless the user sets it, and then what the user sets. It takes the root,
     the values of the pod, `own`, the name of the chart's Secret, `serves`, which is empty where it has no port, and
     `leads`, where it asks runners for their stats. */}}
{{- define "clusteragent.env" -}}
{{- $values := .values -}}
{{- $own := include "clusteragent.ownEnv" . | fromYamlArray -}}
{{- $theirs := list -}}
{{- range $values.env -}}{{- $theirs = append $theirs .name -}}{{- end -}}
{{- range $name, $_ := $values.envDict -}}{{- $theirs = append $theirs $name -}}{{- end -}}
{{- $all := list -}}
{{- range $own -}}{{- if not (has .name $theirs) -}}{{- $all = append $all . -}}{{- end -}}{{- end -}}
{{- range $name, $value := $values.envDict -}}{{- $all = append $all (dict "name" $name "value" (kindIs "string" $value | ternary $value (toJson $value))) -}}{{- end -}}
{{- toYaml (concat $all (default list $values.env)) -}}
{{- end }}

{{- define "clusteragent.ownEnv" -}}
{{- $root := .root -}}
{{- $name := .own -}}
{{- with $root.Values -}}
{{- $shared := default $name .existingSecret -}}
{{ include "clusteragent.databaseEnv" (dict "root" $root "own" $name) }}
{{ include "clusteragent.secretEnv" (dict "name" "DD_CLUSTER_AGENT_AUTH_TOKEN" "secret" (default $name .tokenExistingSecret) "key" "token") }}
{{- if not .sharedToken }}
- {name: CLUSTERAGENT_SHARED_TOKEN, value: "off"}
{{- end }}
{{- if $.leads }}
{{- with include "clusteragent.nodeTokensSecret" $root }}
{{ include "clusteragent.secretEnv" (dict "name" "CLUSTERAGENT_RUNNER_TOKENS" "secret" . "key" "tokens") }}
{{- end }}
{{- end }}
{{ include "clusteragent.secretEnv" (dict "name" "CLUSTERAGENT_LOCAL_TOKEN" "secret" $shared "key" "local-token") }}
{{ include "clusteragent.secretEnv" (dict "name" "CLUSTERAGENT_SECRET_KEY" "secret" $shared "key" "secret-key") }}
- {name: CLUSTERAGENT_VAR, value: /var/lib/clusteragent}
- {name: CLUSTERAGENT_CONFD, value: /etc/clusteragent/conf.d}
- {name: CLUSTERAGENT_BIND, value: {{ printf "%s:5005" .bindAddress | quote }}}
- {name: CLUSTERAGENT_ADMIN_BIND, value: {{ printf "%s:5006" .bindAddress | quote }}}
- {name: CLUSTERAGENT_ADMIN_HOSTS, value: {{ include "clusteragent.adminHosts" $root | quote }}}
{{- if $.serves }}
{{- if .tls.existingSecret }}
- {name: CLUSTERAGENT_CERTIFICATE, value: /etc/clusteragent/tls/tls.crt}
- {name: CLUSTERAGENT_CERTIFICATE_KEY, value: /etc/clusteragent/tls/tls.key}
{{- else }}
- {name: CLUSTERAGENT_CERTIFICATE_NAMES, value: {{ include "clusteragent.certificateNames" $root | quote }}}
{{- end }}
{{- end }}
- {name: CLUSTERAGENT_LOG_FORMAT, value: json}
- {name: DD_LOG_LEVEL, value: {{ .logLevel | quote }}}
{{- with .clusterName }}
- {name: DD_CLUSTER_NAME, value: {{ . | quote }}}
{{- end }}
{{- with include "clusteragent.adminUrl" $root }}
- {name: CLUSTERAGENT_ADMIN_URL, value: {{ . | quote }}}
{{- end }}
{{- with .trustedProxies }}
- {name: CLUSTERAGENT_TRUSTED_PROXIES, value: {{ join " " . | quote }}}
{{- end }}
- {name: CLUSTERAGENT_KUBERNETES, value: {{ ternary "auto" "off" .kubernetes.enabled | quote }}}
{{- with include "clusteragent.runnerPods" $root | fromYaml }}
- {name: CLUSTERAGENT_KUBERNETES_RUNNER_PODS, value: {{ printf "%s/%s" .namespace .labels | quote }}}
{{- end }}
{{- if .kubernetes.secrets }}
- {name: CLUSTERAGENT_KUBERNETES_SECRETS, value: "true"}
{{- end }}
{{- end }}
{{- end }}

{{/* By what names operators reach it: through a forwarded port, within the cluster, from outside. */}}
{{- define "clusteragent.adminHosts" -}}
{{- $name := printf "%s-operators" (include "clusteragent.fullname" .) -}}
{{- $inside := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- $outside := list -}}
{{- with include "clusteragent.adminUrl" . -}}{{- $outside = list (urlParse .).hostname -}}{{- end -}}
{{- join " " (concat (list "localhost" "127.0.0.1" "[::1]") $inside $outside) -}}
{{- end }}

{{/* By what names agents and operators reach both Services, within the cluster. */}}
{{- define "clusteragent.certificateNames" -}}
{{- $names := list -}}
{{- range $name := list (include "clusteragent.agentsService" .) (printf "%s-operators" (include "clusteragent.fullname" .)) -}}
{{- $inside := printf "%s.%s" $name $.Release.Namespace -}}
{{- $names = concat $names (list $name $inside (printf "%s.svc" $inside) (printf "%s.svc.cluster.local" $inside)) -}}
{{- end -}}
{{- join " " $names -}}
{{- end }}

{{- define "clusteragent.podOptions" -}}
securityContext: {{- toYaml .podSecurityContext | nindent 2 }}
{{- with .imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "clusteragent.container" -}}
image: {{ include "clusteragent.image" .root }}
imagePullPolicy: {{ .values.image.pullPolicy }}
securityContext: {{- toYaml .values.securityContext | nindent 2 }}
{{- end }}

{{- define "clusteragent.folders" -}}
- {name: state, mountPath: /var/lib/clusteragent}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "clusteragent.confdItems" -}}
{{- range $file, $_ := .Values.confd }}
- {key: {{ $file }}, path: {{ $file }}}
{{- end }}
{{- range $folder, $files := .Values.advancedConfd }}
{{- range $file, $_ := $files }}
- {key: {{ $folder }}--{{ $file }}, path: {{ $folder }}/{{ $file }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "clusteragent.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ .port }}, scheme: HTTPS}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: {{ .port }}, scheme: HTTPS}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}, scheme: HTTPS}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end }}
