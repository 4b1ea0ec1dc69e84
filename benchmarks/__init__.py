"""What batchproxy costs, measured: ``python -m benchmarks`` (see docs/benchmarks.md). Nothing of the product is here."""
