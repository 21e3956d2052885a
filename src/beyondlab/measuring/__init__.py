"""Measuring and simulating: a server whose true latency is known, load generators that see it or miss it."""
