"""A second workload, of another domain than the demo's: which machine fails within a day."""
