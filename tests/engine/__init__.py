"""Tests of the engine: capture, passes, ops, plan and run."""
