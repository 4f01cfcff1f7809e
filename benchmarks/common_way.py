"""How a checkpoint is commonly ported: torch.load, every matrix transposed, paddle.save. Takes X.pth and Y.pdparams."""

import sys

import paddle
import torch

source, target = sys.argv[1:]
state_dict = {name: tensor.numpy() for name, tensor in torch.load(source, weights_only=True).items()}
paddle.save({name: array.T if array.ndim == 2 else array for name, array in state_dict.items()}, target)
