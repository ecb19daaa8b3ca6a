import torch

# Tensors are small and test workers many: more threads only wait for each other.
torch.set_num_threads(1)
