"""Adapters to other libraries: captum and Quantus."""
