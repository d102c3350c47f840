"""Monitoring: what is broken now, who is told of it, the status page and the metrics."""
