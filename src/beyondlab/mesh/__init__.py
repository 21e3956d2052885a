"""Service mesh: Envoys as sidecars, a control plane of files, retries, ejection, identities, and their cost."""
