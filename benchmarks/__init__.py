"""Benchmarks: they measure, tests do not time."""
