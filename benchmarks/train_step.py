"""Training steps of a Mixer of CIFAR's size on the CPU, with and without MKL's AVX2 on AMD processors."""

import os
import subprocess
import sys
import time

from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

CONFIG = MixerConfig(
    image_size=32, patch_size=4, num_blocks=6, hidden_dim=128, tokens_mlp_dim=64, channels_mlp_dim=512, num_classes=10
)
BATCH, STEPS = 128, 5


def measure() -> None:
    """Print the speed of a few steps in this process's environment."""
    import numpy as np

    from align.probes.knobs import cpus
    from reports.score.parallel import Group
    from reports.train.recipes import recipe_by_name
    from reports.train.trainer import Trainer

    weights = convert_state_dict(init_state_dict(CONFIG, 0), CONFIG).state_dict
    trainer = Trainer(CONFIG, weights, recipe_by_name("small"), device="cpu", threads=cpus(), group=Group())
    generator = np.random.default_rng(0)
    images = generator.standard_normal((BATCH, 3, 32, 32), dtype=np.float32)
    labels = generator.integers(0, 10, BATCH)
    trainer.step(images, labels, 1e-4, BATCH)
    started, used = time.perf_counter(), time.process_time()
    for _ in range(STEPS):
        trainer.step(images, labels, 1e-4, BATCH)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    knob = os.environ.get("MKL_DEBUG_CPU_TYPE", "unset")
    speed, cost = BATCH * STEPS / seconds, 1e3 * used / (BATCH * STEPS)
    print(f"MKL_DEBUG_CPU_TYPE {knob}: {speed:.0f} images/s, {cost:.1f} ms of CPU an image")


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    else:
        plain = {name: value for name, value in os.environ.items() if name != "MKL_DEBUG_CPU_TYPE"}
        for environment in (plain, {**plain, "MKL_DEBUG_CPU_TYPE": "5"}) * 2:
            subprocess.run([sys.executable, __file__, "measure"], check=True, env=environment)
