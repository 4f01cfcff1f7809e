"""The acceptance folder of PaddlePaddle's paper-reproduction guide."""
