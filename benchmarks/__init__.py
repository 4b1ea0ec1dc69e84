"""What batchproxy costs, measured with ``python -m benchmarks`` (see docs/benchmarks.md). Nothing served is here."""
