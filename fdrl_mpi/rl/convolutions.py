"""The sizes of images on their way through convolutions: integers only."""

from collections.abc import Sequence
from dataclasses import dataclass

FEW_CHANNELS = 4
"""A last axis up to this length holds channels, if the first axis is longer."""


@dataclass(frozen=True)
class Convolution:
    """One convolution without padding, followed by a ReLU.

    Attributes
    ----------
    inputs, channels : int
        Channels that go in and come out.
    kernel, stride : int
        Of both axes of the image, pixels.
    height, width : int
        Of what comes out, pixels.
    """

    inputs: int
    channels: int
    kernel: int
    stride: int
    height: int
    width: int

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the kernels, as torch has it."""
        return (self.channels, self.inputs, self.kernel, self.kernel)

    @property
    def fan_in(self) -> int:
        """Number of values that one output is computed from."""
        return self.inputs * self.kernel**2

    @property
    def size(self) -> int:
        """Number of values that come out."""
        return self.channels * self.height * self.width


def channel_axis(image: Sequence[int]) -> int:
    """Say which axis of an image holds its channels: 0 or 2.

    Spaces do not tell. The last one, if the first two are equally long and it is not (10 x 10 x 7), or if it
    is at most 4 long and the first is longer (210 x 160 x 3); else the first (4 x 84 x 84).
    """
    first, second, last = image
    is_square = first == second != last
    return 2 if is_square or last <= min(FEW_CHANNELS, first - 1) else 0


def convolution_layers(
    observation_shape: Sequence[int], convolutions: Sequence[tuple[int, int, int]]
) -> list[Convolution]:
    """Follow an image through its convolutions.

    Parameters
    ----------
    observation_shape : three ints
        Height, width and channels, or channels, height and width; see `channel_axis`.
    convolutions : sequence of (channels, kernel, stride)
        In the order in which they are applied; none for observations that are no images.

    Raises
    ------
    ValueError
        If there are convolutions and the observation is no image, or a kernel is larger than what it slides
        over.
    """
    if not convolutions:
        return []
    chosen = f"learner.network.convolutions = {[list(layer) for layer in convolutions]}"
    if len(observation_shape) != 3:
        raise ValueError(
            f"{chosen}, but an observation of shape {tuple(observation_shape)} is no image: that has "
            "height, width and channels; set learner.network.convolutions to [] for plain layers"
        )
    sizes = list(observation_shape)
    inputs = sizes.pop(channel_axis(observation_shape))
    height, width = sizes
    layers: list[Convolution] = []
    for channels, kernel, stride in convolutions:
        if kernel > min(height, width):
            raise ValueError(
                f"{chosen}, but kernel {len(layers) + 1} of {kernel} x {kernel} is larger than the "
                f"{height} x {width} pixels it slides over; choose smaller kernels or strides, or fewer "
                "convolutions"
            )
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        layers.append(Convolution(inputs, channels, kernel, stride, height, width))
        inputs = channels
    return layers
