"""Stateful serverless: an engine that replays, entities, event time and windows, beside DBOS and Durable Objects."""
