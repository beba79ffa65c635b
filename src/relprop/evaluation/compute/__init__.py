"""Compute an evaluation: blocks of images through models, methods and metrics to rows."""
