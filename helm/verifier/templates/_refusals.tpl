{{/* What would start and not work, said before anything is installed. */}}
{{- define "verifier.refusals" -}}
{{- $config := .Values.config }}
{{- $given := list }}
{{- range .Values.env }}{{ $given = append $given .name }}{{ end }}
{{- if and .Values.existingConfigMap.name $config }}
{{- fail "existingConfigMap.name and config are both given: leave one of them out" }}
{{- end }}
{{- if not (or .Values.existingConfigMap.name $config.issuers (has "VERIFIER__ISSUERS" $given) .Values.envFrom) }}
{{- fail "config.issuers is missing: name at least one issuer whose tokens are accepted, or give existingConfigMap.name" }}
{{- end }}
{{- range list "VERIFIER_CONFIG" "VERIFIER__LISTEN" "VERIFIER__OPS__LISTEN" "VERIFIER__GRPC__LISTEN" }}
{{- if has . $given }}{{ fail (printf "env sets %s, which the chart sets: use config.listen, config.ops.listen or config.grpc.listen" .) }}{{ end }}
{{- end }}
{{- range $key, $listen := dict "listen" (include "verifier.listen" .) "ops.listen" (include "verifier.opsListen" .) "grpc.listen" (include "verifier.grpcListen" .) }}
{{- if hasPrefix "unix:" $listen }}
{{- fail (printf "config.%s is %s: a Service reaches no Unix socket; deploy/kubernetes shows a sidecar that listens on one" $key $listen) }}
{{- end }}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\])" $listen }}
{{- fail (printf "config.%s is %s: neither Service nor kubelet could reach it; leave it out, or give 0.0.0.0 with a port" $key $listen) }}
{{- end }}
{{- end }}
{{- if regexMatch "[0-9]{16}" (regexReplaceAll "\"(\\\\.|[^\"\\\\])*\"" (toJson $config) "") }}
{{- fail "config holds a number of 16 digits or more, which Helm would round: put it into quotes, or give existingConfigMap.name" }}
{{- end }}
{{- if regexMatch "://[^/@]*:[^/@]*@" (dig "redis" "url" "" $config) }}
{{- fail "config.redis.url holds a password, which everybody who may read the ConfigMap could read: leave it out and name its secret, secrets.redisPassword" }}
{{- end }}
{{- if and (dig "redis" "url" "" $config) (not (or .Values.secrets.redisKey.name (dig "redis" "key_file" "" $config) (dig "redis" "trusted" false $config))) }}
{{- fail "config.redis.url needs secrets.redisKey, the key that entries are sealed with: openssl rand -base64 32" }}
{{- end }}
{{- if and .Values.callers $config.callers }}
{{- fail "callers and config.callers are both given: leave one of them out" }}
{{- end }}
{{- if and .Values.secrets.tlsClientCa.name (not (include "verifier.tls" .)) }}
{{- fail "secrets.tlsClientCa needs secrets.tls: without TLS nobody shows a certificate" }}
{{- end }}
{{- range $config.issuers }}
{{- if and (eq (.preset | default "") "kubernetes") (not (or .jwks_uri .jwks_file .public_key_files .bearer_file $.Values.serviceAccount.projectedToken.enabled)) }}
{{- fail (printf "issuer %s has the preset kubernetes, whose keys are fetched with a token: set serviceAccount.projectedToken.enabled, or the issuer's bearer_file" .name) }}
{{- end }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs is empty: name the Gateway that the route belongs to" }}
{{- end }}
{{- end }}
