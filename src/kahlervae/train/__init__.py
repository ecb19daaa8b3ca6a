"""Training: the objective, the geometric regulariser, the loop and its checkpoints."""

from kahlervae.train.loop import train

__all__ = ["train"]
