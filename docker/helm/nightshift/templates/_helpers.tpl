{{- define "nightshift.labels" -}}
{{ include "nightshift.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "nightshift.selector" -}}
app.kubernetes.io/name: nightshift
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "nightshift.image" -}}
{{- $image := index .root.Values.images .image -}}
{{- with .root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "nightshift.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary .Values.name "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* The Secret with the stores' addresses and keys; the one with the logins. */}}
{{- define "nightshift.stores" -}}
{{- .Values.secrets.existing | default (printf "%s-stores" .Values.name) }}
{{- end }}

{{- define "nightshift.logins" -}}
{{- .Values.secrets.logins | default (printf "%s-logins" .Values.name) }}
{{- end }}

{{/* One variable from a Secret. Takes: variable, secret, optional key (default: the variable), optional. */}}
{{- define "nightshift.from" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key | default .variable }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end }}

{{/* The keys to S3: without them the pod's own identity is used. */}}
{{- define "nightshift.s3" -}}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
{{ include "nightshift.from" (dict "variable" . "secret" (include "nightshift.stores" $) "optional" true) }}
{{- end }}
{{- end }}

{{/* MLflow's names, in the cluster and at the ingress. */}}
{{- define "nightshift.mlflowHosts" -}}
{{- $name := printf "%s-mlflow" .Values.name -}}
{{- $hosts := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) -}}
{{- with .Values.mlflow.ingress -}}{{- if .enabled -}}{{- $hosts = append $hosts .host -}}{{- end -}}{{- end -}}
{{- join "," (concat $hosts .Values.mlflow.hosts) -}}
{{- end }}

{{/* The names under which a service is asked. Takes: root, name, service. */}}
{{- define "nightshift.serviceHosts" -}}
{{- $full := printf "%s-%s" .root.Values.name .name -}}
{{- $space := .root.Release.Namespace -}}
{{- $hosts := list $full (printf "%s.%s" $full $space) (printf "%s.%s.svc" $full $space) (printf "%s.%s.svc.cluster.local" $full $space) -}}
{{- if .service.ingress.enabled -}}{{- $hosts = append $hosts .service.ingress.host -}}{{- end -}}
{{- with .root.Values.settings.serving_hosts -}}{{- $hosts = append $hosts . -}}{{- end -}}
{{- join "," $hosts -}}
{{- end }}

{{/* What a pod writes to: nothing of it is kept. */}}
{{- define "nightshift.scratch" -}}
- name: home
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "nightshift.scratchMounts" -}}
- {name: home, mountPath: /var/lib/nightshift}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{/* Values of one seat's service: `service`, and over it what the seat says itself. Takes: root, name. */}}
{{- define "nightshift.service" -}}
{{- mergeOverwrite (deepCopy .root.Values.service) (deepCopy (index .root.Values.services .name)) | toYaml -}}
{{- end }}
