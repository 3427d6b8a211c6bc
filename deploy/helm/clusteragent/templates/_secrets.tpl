{{/* What the Secret of the chart holds, as {key: value} in JSON. It is worked out once, as what is new is random. */}}
{{- define "clusteragent.secretData" -}}
{{- if not (hasKey .Release "secretData") -}}
{{- $_ := set .Release "secretData" (include "clusteragent.newSecretData" .) -}}
{{- end -}}
{{- .Release.secretData -}}
{{- end }}

{{/* Each value is given, kept from the last time, or new. What was made for an installation that failed is in the migration's
     Secret alone, and the database has the first operator with that password. */}}
{{- define "clusteragent.newSecretData" -}}
{{- $name := include "clusteragent.fullname" . -}}
{{- $old := dict -}}
{{- range list $name (printf "%s-migrate" $name) -}}
{{- $old = merge $old ((lookup "v1" "Secret" $.Release.Namespace .).data | default dict) -}}
{{- end -}}
{{- $data := dict -}}
{{- if not .Values.tokenExistingSecret -}}
{{- $_ := set $data "token" (.Values.token | default (get $old "token" | b64dec) | default (randAlphaNum 32)) -}}
{{- end -}}
{{- if not .Values.existingSecret -}}
{{- range $key, $length := dict "local-token" 64 "secret-key" 64 "admin-password" 24 -}}
{{- $_ := set $data $key (get $old $key | b64dec | default (randAlphaNum (int $length))) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.existingSecret .Values.tls.authorityExistingSecret -}}
{{- fail "tls.authorityExistingSecret is given beside tls.existingSecret: give one of them" -}}
{{- end -}}
{{/* Where all else is given, as for tools that render without a cluster, this would be another one each time. */}}
{{- if not (or .Values.existingSecret .Values.tls.existingSecret .Values.tls.authorityExistingSecret) -}}
{{- $authority := dict "Cert" (get $old "ca.pem" | b64dec) "Key" (get $old "ca_key.pem" | b64dec) -}}
{{- if not (and $authority.Cert $authority.Key) -}}{{- $authority = genCA "cluster agent authority" 3650 -}}{{- end -}}
{{- $_ := set $data "ca.pem" $authority.Cert -}}
{{- $_ := set $data "ca_key.pem" $authority.Key -}}
{{- end -}}
{{- if and .Values.database.existingSecret (or .Values.database.url .Values.database.directUrl) -}}
{{- fail "database.url is given beside database.existingSecret: give one of them" -}}
{{- end -}}
{{- if not .Values.database.existingSecret -}}
{{- $told := "database.existingSecret is missing: the name of a Secret with the URL of a PostgreSQL (or give database.url)" -}}
{{- $_ := set $data "database-url" (required $told .Values.database.url) -}}
{{- with .Values.database.directUrl -}}{{- $_ := set $data "direct-database-url" . -}}{{- end -}}
{{- end -}}
{{- if $data -}}
{{/* Pods carry a hash of all this. Without the salt, whoever reads pods could try passwords on it. */}}
{{- $_ := set $data "salt" (get $old "salt" | b64dec | default (randAlphaNum 32)) -}}
{{- end -}}
{{- toJson $data -}}
{{- end }}

{{/* The authority by which web servers sign their certificates, as {secret, certificate, key}: a Secret and keys of it; empty if each
     pod makes its own, or none. */}}
{{- define "clusteragent.authority" -}}
{{- if .Values.tls.authorityExistingSecret -}}
{secret: {{ .Values.tls.authorityExistingSecret }}, certificate: tls.crt, key: tls.key}
{{- else if hasKey (include "clusteragent.secretData" . | fromJson) "ca.pem" -}}
{secret: {{ include "clusteragent.fullname" . }}, certificate: ca.pem, key: ca_key.pem}
{{- end -}}
{{- end }}

{{/* The Secret whose key `token` opens all names. */}}
{{- define "clusteragent.sharedTokenSecret" -}}
{{- default (include "clusteragent.fullname" .) .Values.tokenExistingSecret -}}
{{- end }}

{{/* The Secret with the node tokens of this chart's runners; empty if they have none. */}}
{{- define "clusteragent.nodeTokensSecret" -}}
{{- with .Values.clusterChecksRunner -}}
{{- if .enabled -}}{{- .nodeTokensExistingSecret -}}{{- end -}}
{{- if and .enabled (not .nodeTokensExistingSecret) (not $.Values.sharedToken) -}}
{{- fail "sharedToken is false, so runners need clusterChecksRunner.nodeTokensExistingSecret: the name of a Secret with the keys token and tokens" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* An environment variable of a Secret's key. It takes name, secret and key. */}}
{{- define "clusteragent.secretEnv" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}

{{/* DATABASE_URL and the direct one. It takes the root and `own`, the name of the chart's Secret. */}}
{{- define "clusteragent.databaseEnv" -}}
{{- $database := .root.Values.database -}}
{{- $given := $database.existingSecret -}}
{{ include "clusteragent.secretEnv" (dict "name" "DATABASE_URL" "secret" (default .own $given)
  "key" (ternary $database.existingSecretKey "database-url" (not (empty $given)))) }}
{{- $direct := ternary $database.directExistingSecretKey (ternary "direct-database-url" "" (not (empty $database.directUrl))) (not (empty $given)) }}
{{- with $direct }}
{{ include "clusteragent.secretEnv" (dict "name" "CLUSTERAGENT_DIRECT_DATABASE_URL" "secret" (default $.own $given) "key" .) }}
{{- end }}
{{- end }}
