"""The Paddle vision MLPs by their former name; they live in `convert.mixer.paddle_mixer`."""

from convert.mixer.paddle_mixer import MlpMixer

__all__ = ["MlpMixer"]
