"""The promotion gate against what others do, in simulation: see docs/canary-benchmark.md."""
