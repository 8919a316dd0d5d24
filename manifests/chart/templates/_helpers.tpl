{{/* Labels of every object. */}}
{{- define "weft.labels" -}}
app.kubernetes.io/part-of: weft
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "weft.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "weft.pullSecrets" -}}
{{- if .Values.image.pullSecrets }}
imagePullSecrets:
{{- range .Values.image.pullSecrets }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Flags that every binary takes. */}}
{{- define "weft.args" -}}
- --config=kubernetes
- --trust-domain={{ .Values.trustDomain }}
- --root-namespace={{ .Release.Namespace }}
- --log={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
{{- end }}

{{/* What everything that decides about traffic reads. */}}
{{- define "weft.traffic.rules" -}}
- apiGroups: [""]
  resources: [namespaces, pods, serviceaccounts, services]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways, httproutes, referencegrants]
  verbs: [get, list, watch]
- apiGroups: [weft.dev]
  resources: [authorizationpolicies, externalservices, meshconfigs, peerauthentications, trafficpolicies]
  verbs: [get, list, watch]
{{- end }}

{{/* What decides which pods of a node are captured. */}}
{{- define "weft.capture.rules" -}}
- apiGroups: [""]
  resources: [namespaces, pods, services]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways]
  verbs: [get, list, watch]
- apiGroups: [weft.dev]
  resources: [authorizationpolicies, meshconfigs, peerauthentications]
  verbs: [get, list, watch]
{{- end }}
