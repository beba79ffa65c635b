"""Recording: one forward pass of a model, without values, as a graph of ATen ops with module paths."""
