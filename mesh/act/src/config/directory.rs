//! The embedded default source: a directory of Kubernetes YAML, watched.
