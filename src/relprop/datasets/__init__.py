"""Data sets of annotated images in their official layouts."""

from relprop.datasets.registry import DATASETS, open_dataset, register_dataset
from relprop.datasets.sample import Annotated, Dataset, Failure, Problem, Sample, load
from relprop.datasets.voc import open_voc

__all__ = [
    "DATASETS",
    "Annotated",
    "Dataset",
    "Failure",
    "Problem",
    "Sample",
    "load",
    "open_dataset",
    "open_voc",
    "register_dataset",
]
