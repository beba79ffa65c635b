"""Datasets of annotated images, read in their official layouts."""

from relprop.datasets.sample import Annotated, Dataset, Failure, Problem, Sample, load
from relprop.datasets.voc import open_voc

__all__ = ["Annotated", "Dataset", "Failure", "Problem", "Sample", "load", "open_voc"]
