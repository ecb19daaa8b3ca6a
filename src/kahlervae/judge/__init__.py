"""From tables to verdicts: statistics over seeds, samplers at equal variation, claims, the check.

Import what is needed from the modules of this folder; they read tables only and do not load torch,
but for the scores of a sweep.
"""
