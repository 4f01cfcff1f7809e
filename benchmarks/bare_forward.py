"""The least that a comparison by hand costs: import both frameworks, build both models, one float32 forward on each."""

import numpy as np
import paddle
import timm
import torch

from convert.mixer.paddle_mixer import MlpMixer
from convert.mixer.variants import get_variant

variant = get_variant("b16_in21k")
reference = timm.create_model(variant.timm_id, pretrained=False).eval()
candidate = MlpMixer(variant.config)
candidate.eval()
images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32)
with torch.inference_mode():
    logits = reference(torch.from_numpy(images)).numpy()
with paddle.no_grad():
    print(logits.shape, candidate(paddle.to_tensor(images)).numpy().shape)
