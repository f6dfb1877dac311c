"""Benchmarks: ratios from one run on one machine, with their method. Nothing here is a test of time."""
