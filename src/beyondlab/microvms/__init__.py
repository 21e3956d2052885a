"""Firecracker and microVMs: a monitor on KVM, an API like Firecracker's in front of it, its rate limiter."""
