{{- define "verifier.pod" -}}
serviceAccountName: {{ include "verifier.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "verifier.gracePeriod" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- include "verifier.placement" . }}
{{- with .Values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.initContainers }}
initContainers: {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: verifier
    image: {{ include "verifier.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [serve]
    env:
      {{- range $name, $value := include "verifier.environment" . | fromYaml }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
      {{- with .Values.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .Values.envFrom }}
    envFrom: {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      - name: data
        containerPort: {{ include "verifier.portOf" (include "verifier.listen" .) }}
      - name: ops
        containerPort: {{ include "verifier.portOf" (include "verifier.opsListen" .) }}
      {{- with include "verifier.grpcListen" . }}
      - name: grpc
        containerPort: {{ include "verifier.portOf" . }}
      {{- end }}
    startupProbe:
      httpGet: {path: /healthz, port: ops}
      {{- toYaml .Values.probes.startup | nindent 6 }}
    livenessProbe:
      httpGet: {path: /healthz, port: ops}
      {{- toYaml .Values.probes.liveness | nindent 6 }}
    readinessProbe:
      httpGet: {path: /readyz, port: ops}
      {{- toYaml .Values.probes.readiness | nindent 6 }}
    resources: {{- include "verifier.resources" . | nindent 6 }}
    securityContext: {{- toYaml .Values.securityContext | nindent 6 }}
    volumeMounts: {{- include "verifier.mounts" . | nindent 6 }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes: {{- include "verifier.volumes" . | nindent 2 }}
{{- end }}

{{/* Where pods run. What is the chart's own only asks: a cluster of one node takes it too. */}}
{{- define "verifier.placement" -}}
{{- $labels := include "verifier.selectorLabels" . | fromYaml }}
{{- if .Values.affinity }}
affinity: {{- toYaml .Values.affinity | nindent 2 }}
{{- else if ne .Values.podAntiAffinity "none" }}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" $labels) }}
affinity:
  podAntiAffinity:
    {{- if eq .Values.podAntiAffinity "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution: {{- toYaml (list $term) | nindent 6 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      {{- toYaml (list (dict "weight" 100 "podAffinityTerm" $term)) | nindent 6 }}
    {{- end }}
{{- end }}
topologySpreadConstraints:
  {{- if .Values.topologySpreadConstraints }}
  {{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- toYaml $labels | nindent 8 }}
    matchLabelKeys: [pod-template-hash] # or the pods of the last version would count
  {{- end }}
  {{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Whole folders, and never a subPath: a file that is mounted so does not change with its Secret or ConfigMap. */}}
{{- define "verifier.mounts" -}}
- {name: config, mountPath: /etc/verifier/config, readOnly: true}
{{- if include "verifier.secretFiles" . | fromYaml }}
- {name: secrets, mountPath: /etc/verifier/secrets, readOnly: true}
{{- end }}
{{- range .Values.files }}
- {name: file-{{ .name }}, mountPath: /etc/verifier/files/{{ .name }}, readOnly: true}
{{- end }}
{{- with .Values.serviceAccount.projectedToken }}
{{- if .enabled }}
- {name: token, mountPath: {{ .mountPath }}, readOnly: true}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Files of secrets are root's, and readable by the pod's fsGroup alone: 0440. */}}
{{- define "verifier.volumes" -}}
- name: config
  configMap:
    name: {{ include "verifier.configMapName" . }}
{{- with include "verifier.secretFiles" . | fromYaml }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $key, $file := . }}
      - secret:
          name: {{ $file.secret }}
          items: [{key: {{ $file.key }}, path: {{ $file.path }}}]
      {{- end }}
{{- end }}
{{- range .Values.files }}
- name: file-{{ .name }}
  {{- if .secret }}
  secret: {secretName: {{ .secret }}, defaultMode: 0440}
  {{- else }}
  configMap: {name: {{ .configMap }}}
  {{- end }}
{{- end }}
{{- with .Values.serviceAccount.projectedToken }}
{{- if .enabled }}
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: {{ .expirationSeconds }}
          {{- with .audience }}
          audience: {{ . | quote }}
          {{- end }}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
