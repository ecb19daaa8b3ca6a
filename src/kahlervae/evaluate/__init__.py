"""The evaluation protocol: scores of models and samples, many of them through oracle classifiers.

Import what is needed from the modules of this folder.
"""

UNJUDGED = "no labels"
"""In tables, in place of an oracle's name, where samples have no labels: what it tells is empty."""
