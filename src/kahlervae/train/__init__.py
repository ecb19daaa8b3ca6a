"""Training: the objective, the geometric regulariser, the loop and its checkpoints."""

from kahlervae.train.loop import train, train_together

__all__ = ["train", "train_together"]
