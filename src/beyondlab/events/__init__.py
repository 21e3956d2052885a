"""Event-driven architectures: queues and logs, envelopes, delivery, scaling on lag, backpressure."""
