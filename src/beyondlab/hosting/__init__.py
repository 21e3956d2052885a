"""Serverless containers: tasks placed, run, metered and priced."""
