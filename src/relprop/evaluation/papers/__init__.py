"""The papers' experiments: what they ran, what they published, and running them again."""
