"""Benchmarks against other CLIP packages. `make bench` runs them; docs/benchmarks.md contains the last tables."""
