{{/* What things are called. */}}

{{- define "verifier.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 59 characters, so that -ops fits behind it. */}}
{{- define "verifier.fullname" -}}
{{- $name := include "verifier.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 59 | trimSuffix "-" }}
{{- end }}

{{- define "verifier.selectorLabels" -}}
app.kubernetes.io/name: {{ include "verifier.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: verifier
{{- end }}

{{- define "verifier.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63)
  "app.kubernetes.io/version" (.Values.image.tag | default .Chart.AppVersion | trunc 63)
  "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge (include "verifier.selectorLabels" . | fromYaml) $own .Values.commonLabels | toYaml }}
{{- end }}

{{- define "verifier.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "verifier.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "verifier.configMapName" -}}
{{- .Values.existingConfigMap.name | default (include "verifier.fullname" .) }}
{{- end }}

{{- define "verifier.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether something is wanted that is true, false, or auto: where the cluster knows the API. Takes a list of both. */}}
{{- define "verifier.wanted" -}}
{{- $root := index . 0 }}{{ $enabled := index . 1 | toString }}{{ $api := index . 2 }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") ($root.Capabilities.APIVersions.Has $api)) }}true{{ end }}
{{- end }}
