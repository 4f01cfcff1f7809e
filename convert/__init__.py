"""Conversion of timm vision-MLP checkpoints to PaddlePaddle: a state dict in, a state dict out."""
