"""Results on disk: rows in Parquet files that survive any interruption."""
