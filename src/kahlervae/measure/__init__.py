"""What things cost: metrics, steps of training, samplers, a whole run.

Import what is needed from the modules of this folder.
"""
