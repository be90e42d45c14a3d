"""What `bench verify` compares: sanity values of the metrics, and records, tables, checkpoints and cells of results."""
