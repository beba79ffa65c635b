"""Summarize rows of results as scores, tables and figures."""
