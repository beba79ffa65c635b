"""Evaluation runs: models × methods × metrics over a set of images, one row each, in Parquet (extra `evaluate`)."""
