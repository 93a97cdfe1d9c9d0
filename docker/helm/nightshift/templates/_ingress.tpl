{{/* An Ingress to the Service of a component, if it is enabled. Takes: root, component, ingress. */}}
{{- define "nightshift.ingress" }}
{{- if .ingress.enabled }}
{{- if not .ingress.host }}
{{- fail (printf "the ingress of %s is enabled, but has no host" .component) }}
{{- end }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .root.Values.name }}-{{ .component }}
  labels: {{- include "nightshift.labels" (dict "root" .root "component" .component) | nindent 4 }}
  {{- with .ingress.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .ingress.tlsSecret }}
  tls:
    - hosts: [{{ $.ingress.host | quote }}]
      secretName: {{ . }}
  {{- end }}
  rules:
    - host: {{ .ingress.host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ .root.Values.name }}-{{ .component }}
                port: {name: http}
{{- end }}
{{- end }}
