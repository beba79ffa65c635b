"""Data sets of annotated images in their official layouts."""

from relprop.datasets.mosaic import Mosaics, open_mosaic, read_mosaics, write_mosaics
from relprop.datasets.registry import DATASETS, open_dataset, register_dataset
from relprop.datasets.sample import Annotated, Dataset, Facts, Failure, Problem, Sample, load
from relprop.datasets.voc import open_voc

__all__ = [
    "DATASETS",
    "Annotated",
    "Dataset",
    "Facts",
    "Failure",
    "Mosaics",
    "Problem",
    "Sample",
    "load",
    "open_dataset",
    "open_mosaic",
    "open_voc",
    "read_mosaics",
    "register_dataset",
    "write_mosaics",
]

DATASETS["mosaic"] = open_mosaic  # its photos are of another data set, so that it knows the table
