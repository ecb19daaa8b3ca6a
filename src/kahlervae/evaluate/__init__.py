"""The evaluation protocol: scores through oracle classifiers, statistics over seeds, claims.

Import what is needed from the modules of this folder; ``statistics``, ``pareto`` and ``claims``
read tables only and do not load torch.
"""

UNJUDGED = "no labels"
"""In tables, in place of an oracle's name, where samples have no labels: what it tells is empty."""
