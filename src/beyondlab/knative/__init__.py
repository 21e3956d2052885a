"""Knative and portable serverless: autoscaler, activator, queue-proxy, manifests, one handler in five places."""
