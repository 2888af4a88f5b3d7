{{/*
What the chart has to do with the verifier's configuration. The file is passed through as it was written. What the chart
owns, addresses and the files of secrets, is set by the environment, which goes over the file, and only where `config`
does not say it already.
*/}}

{{- define "verifier.listen" -}}
{{- .Values.config.listen | default ":8080" }}
{{- end }}

{{- define "verifier.opsListen" -}}
{{- dig "ops" "listen" ":9090" .Values.config }}
{{- end }}

{{- define "verifier.grpcListen" -}}
{{- dig "grpc" "listen" (ternary ":9191" "" .Values.grpc.enabled) .Values.config }}
{{- end }}

{{- define "verifier.portOf" -}}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{/* Whether the data port speaks TLS. */}}
{{- define "verifier.tls" -}}
{{- if or .Values.secrets.tls.name (dig "tls" "certificate_file" "" .Values.config) }}true{{ end }}
{{- end }}

{{- define "verifier.callers" -}}
{{- if or .Values.callers .Values.config.callers }}true{{ end }}
{{- end }}

{{/* Path of a key in the configuration → the file, for every Secret that has a name. */}}
{{- define "verifier.secretFiles" -}}
{{- $files := dict }}
{{- range $key, $value := dict
  "ops.admin_token_file" "adminToken"
  "redis.key_file" "redisKey"
  "redis.previous_key_file" "redisPreviousKey"
  "redis.password_file" "redisPassword"
  "redis.sentinel_password_file" "redisSentinelPassword"
  "redis.ca_file" "redisCa"
  "tls.client_ca_file" "tlsClientCa" }}
{{- with index $.Values.secrets $value }}
{{- if .name }}{{ $_ := set $files $key (dict "secret" .name "key" .key "path" (kebabcase $value)) }}{{ end }}
{{- end }}
{{- end }}
{{- with .Values.secrets.tls.name }}
{{- $_ := set $files "tls.certificate_file" (dict "secret" . "key" "tls.crt" "path" "tls.crt") }}
{{- $_ := set $files "tls.key_file" (dict "secret" . "key" "tls.key" "path" "tls.key") }}
{{- end }}
{{- range .Values.callers }}
{{- $_ := set $files (printf "callers/%s" .name) (dict "secret" .secretName "key" .key "path" (printf "caller-%s" .name)) }}
{{- end }}
{{- toYaml $files }}
{{- end }}

{{/* What the chart sets of the configuration: variable → value. */}}
{{- define "verifier.environment" -}}
{{- $set := dict
  "VERIFIER_CONFIG" (printf "/etc/verifier/config/%s" (ternary .Values.existingConfigMap.key "verifier.yaml" (ne .Values.existingConfigMap.name "")))
  "VERIFIER__LISTEN" (include "verifier.listen" .)
  "VERIFIER__OPS__LISTEN" (include "verifier.opsListen" .) }}
{{- with include "verifier.grpcListen" . }}{{ $_ := set $set "VERIFIER__GRPC__LISTEN" . }}{{ end }}
{{- range $key, $file := include "verifier.secretFiles" . | fromYaml }}
{{- $parts := splitList "." $key }}
{{- if and (eq (len $parts) 2) (not (dig (index $parts 0) (index $parts 1) "" $.Values.config)) }}
{{- $_ := set $set (printf "VERIFIER__%s" (join "__" $parts | upper)) (printf "/etc/verifier/secrets/%s" $file.path) }}
{{- end }}
{{- end }}
{{- $callers := list }}
{{- range .Values.callers }}
{{- $callers = append $callers (dict "name" .name "secret_file" (printf "/etc/verifier/secrets/caller-%s" .name)) }}
{{- end }}
{{- if $callers }}{{ $_ := set $set "VERIFIER__CALLERS" (toJson $callers) }}{{ end }}
{{- toYaml $set }}
{{- end }}

{{/* A duration of the configuration in whole seconds, rounded up. */}}
{{- define "verifier.seconds" -}}
{{- $factor := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0) (regexFind "[a-z]+$" .) }}
{{- mulf (regexFind "^[0-9.]+" . | float64) $factor | ceil }}
{{- end }}

{{/* SIGTERM, then the drain, then requests in progress; a supervisor gives its workers 5 seconds more. */}}
{{- define "verifier.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds }}
{{- $drain := include "verifier.seconds" (.Values.config.drain_delay | default "5s") | int }}
{{- $stop := include "verifier.seconds" (.Values.config.stop_timeout | default "10s") | int }}
{{- add $drain $stop 15 }}
{{- else }}
{{- .Values.terminationGracePeriodSeconds }}
{{- end }}
{{- end }}

{{/*
Memory in Mi: 75 for each process, 2 KB for each identity that a worker keeps, and a quarter for what comes and goes.
A supervisor is one process more.
*/}}
{{- define "verifier.memory" -}}
{{- $workers := .Values.config.workers | default 1 | int }}
{{- $entries := dig "cache" "max_entries" 100000 .Values.config | int }}
{{- $each := add 75 (div (mul $entries 2) 1024) }}
{{- $supervisor := ternary 75 0 (gt $workers 1) }}
{{- div (mul (add $supervisor (mul $workers $each)) 5) 4 }}Mi
{{- end }}

{{- define "verifier.resources" -}}
{{- $resources := deepCopy .Values.resources }}
{{- range $kind := list "requests" "limits" }}
{{- if eq (dig $kind "memory" "" $resources | toString) "auto" }}
{{- $_ := set (index $resources $kind) "memory" (include "verifier.memory" $) }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* TCP ports that addresses in the configuration and the environment name, and those that their kinds imply. */}}
{{- define "verifier.egressPorts" -}}
{{- $ports := .Values.networkPolicy.egress.ports | default list }}
{{- $written := toJson (list .Values.config .Values.env) }}
{{- range regexFindAll "https?://[^/\"?#]+:[0-9]+" $written -1 }}{{ $ports = append $ports (regexFind "[0-9]+$" .) }}{{ end }}
{{- if regexMatch "\"http://(\\[[^]]*\\]|[^/\":]+)[/\"]" $written }}{{ $ports = append $ports "80" }}{{ end }}
{{- if contains "\"preset\":\"kubernetes\"" $written }}{{ $ports = append $ports "6443" }}{{ end }}
{{- with dig "redis" "url" "" .Values.config }}
{{- $hosts := regexReplaceAll "^[a-z+]+://([^/]*@)?" . "" | splitList "/" | first }}
{{- $usual := ternary "26379" "6379" (contains "+sentinel" .) }}
{{- if not (hasPrefix "unix:" .) }}
{{- range splitList "," $hosts }}
{{- $ports = append $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default $usual) }}
{{- end }}
{{- if or (contains "+sentinel" .) (contains "+cluster" .) }}{{ $ports = append $ports "6379" }}{{ end }}
{{- end }}
{{- end }}
{{- $numbers := list }}
{{- range $ports }}{{ $numbers = append $numbers (int .) }}{{ end }}
{{- $numbers | uniq | join " " }}
{{- end }}

{{/*
Addresses and the statuses that they answer, for `helm test`. Without a token it is 401; who has to show a secret and does
not gets 403; and where a certificate has to be shown, there is nothing to ask with.
*/}}
{{- define "verifier.questions" -}}
{{- $name := include "verifier.fullname" . }}
{{- printf "http://%s-ops.%s.svc:%v/readyz=200" $name .Release.Namespace .Values.opsService.port }}
{{- if not (or .Values.secrets.tlsClientCa.name (dig "tls" "client_ca_file" "" .Values.config)) }}
{{- $scheme := ternary "https" "http" (include "verifier.tls" . | eq "true") }}
{{- $status := ternary "403" "401" (include "verifier.callers" . | eq "true") }}
{{- printf " %s://%s.%s.svc:%v/verify=%s" $scheme $name .Release.Namespace .Values.service.port $status }}
{{- end }}
{{- end }}
