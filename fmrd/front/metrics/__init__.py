"""Metrics are fmrd's figures for monitoring: gathered from the registry, written as OpenMetrics, given to who asks."""
