"""Data sets, their splits and their representations."""

from kahlervae.data.datasets import SPLITS, Split, load_form, load_split, prepare
from kahlervae.data.form import Form

__all__ = ["SPLITS", "Form", "Split", "load_form", "load_split", "prepare"]
