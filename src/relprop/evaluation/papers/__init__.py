"""The papers' experiments: their settings, their published numbers and their reproduction."""
