"""Rows of results become scores, tables and figures."""
