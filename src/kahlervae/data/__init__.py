"""Data sets, their splits and their representations."""

from kahlervae.data.datasets import SPLITS, Split, load_split, prepare

__all__ = ["SPLITS", "Split", "load_split", "prepare"]
