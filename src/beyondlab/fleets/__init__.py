"""Hybrid orchestration: an API server on etcd, controllers, a scheduler and an operator over several clusters."""
