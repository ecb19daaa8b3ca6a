"""The evaluation protocol: scores through oracle classifiers, statistics over seeds, claims.

Import what is needed from the modules of this folder; ``statistics``, ``pareto`` and ``claims``
read tables only and do not load torch.
"""
