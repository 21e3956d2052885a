"""AWS Lambda and its cold starts: what a function costs, how long its callers wait, its runtime run for real."""
