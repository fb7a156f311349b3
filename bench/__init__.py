"""What is measured, beside which peer. `make bench` runs it; docs/benchmarks.md holds the last table."""
