"""Rules on a graph: a method becomes a plan, and the plan is run."""
