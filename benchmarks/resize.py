"""Print how far Pillow's bilinear resize of 32 px images to 224 px lies from TensorFlow's, in grey levels.

TensorFlow's is written out in NumPy, in float32 and in its order of operations, so it need not be installed. Each image
is resized whole, as in evaluation, and so is one crop of it, as in training.

Usage: resize.py [ARCHIVE [COUNT]]  (the first 1,000 test images of CIFAR-10, as `mixer-report --data` takes it; without
it 200 seeded ones)
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from reports.data.cifar10 import read_cifar10
from reports.train.augment import inception_boxes

SIZE = 224
MOST = 1.0
"""Grey levels by which the two can differ at most when enlarging: Pillow rounds to 8 bits after its pass over the rows
and again after its pass over the columns, by at most 0.5 each, and the second pass averages what the first one rounded.

Source: Pillow, src/libImaging/Resample.c, ImagingResampleHorizontal_8bpc and ImagingResampleVertical_8bpc.
"""


def axis(out, size):
    """Return the lower and upper neighbour of each output pixel, and how far it lies between them, float32.

    Sources: tensorflow/core/kernels/image/resize_bilinear_op.cc, compute_interpolation_weights;
    tensorflow/core/util/image_resizer_state.h, HalfPixelScaler. tf.image.resize passes half_pixel_centers=True, and by
    default no antialiasing: tensorflow/python/ops/image_ops_impl.py, resize_images_v2.
    """
    scale = np.float32(size) / np.float32(out)
    place = (np.arange(out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    lower = np.maximum(np.floor(place).astype(np.int64), 0)
    upper = np.minimum(np.ceil(place).astype(np.int64), size - 1)
    return lower, upper, place - np.floor(place)


def tensorflow(image, out):
    """Return an image (height, width, 3) uint8 as tf.image.resize resizes it, (out, out, 3) float32.

    Source: tensorflow/core/kernels/image/resize_bilinear_op.cc, compute_lerp.
    """
    top, bottom, down = axis(out, image.shape[0])
    left, right, across = axis(out, image.shape[1])
    down, across, image = down[:, None, None], across[None, :, None], image.astype(np.float32)
    above = image[top][:, left] + (image[top][:, right] - image[top][:, left]) * across
    below = image[bottom][:, left] + (image[bottom][:, right] - image[bottom][:, left]) * across
    return above + (below - above) * down


def pillow(image, out):
    """Return the image as Pillow resizes it, (out, out, 3) uint8."""
    return np.asarray(Image.fromarray(image).resize((out, out), Image.Resampling.BILINEAR))


def differences(images, out=SIZE):
    """Return the greatest and the mean absolute difference of the two resizes, in grey levels, over all pixels."""
    found = [np.abs(pillow(image, out) - tensorflow(image, out).astype(np.float64)) for image in images]
    return max(float(one.max()) for one in found), float(np.mean([one.mean() for one in found]))


def crops(images):
    """Return one inception crop of each image, seeded."""
    boxes = inception_boxes(np.random.default_rng(0).random((len(images), 4)), images.shape[1])
    return [image[top:bottom, left:right] for image, (left, top, right, bottom) in zip(images, boxes, strict=True)]


def noise(count=200):
    """Return seeded images (count, 32, 32, 3) uint8, every value drawn independently."""
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def main():
    """Print a line for whole images and one for crops."""
    archive, count = sys.argv[1:] + ["", "1000"][len(sys.argv) - 1 :]
    images = read_cifar10(Path(archive)).images[: int(count)] if archive else noise()
    print(f"{len(images):,} images, 32 to {SIZE} px; grey levels of 255; at most {MOST:g} is possible")
    for what, those in (("whole images", images), ("crops", crops(images))):
        most, mean = differences(those)
        print(f"{what:12}  greatest {most:.3f}  mean {mean:.3f}")


if __name__ == "__main__":
    main()
