"""CenterNet: a detector that finds objects as the peaks of heat maps, one for each class."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_floats,
    check_number,
    check_positive,
    describe,
)
from jaxnets.detection import Detections
from jaxnets.layers import BatchNorm2d, Conv2d, ConvTranspose2d, MaxPool2d, ReLU

#: The number of pixels between two positions of the heat maps.
STRIDE = 4
_DIVISOR = 8  # the images are halved three times
_RARE = 0.1  # the score of every position before training
_OVERLAP = 0.7  # the overlap that defines the width of a peak; see gaussian_radius


class CenterNet(nnx.Module):
    """Predicts the centers of objects, and the size of the object at each center.

    Three convolutions of stride 2, one of stride 1, a transposed convolution back to 1/4 of the
    resolution, to which the earlier features of this resolution are added, and three heads of two
    convolutions. The names of the heads are those of the authors' code: ``hm`` for the heat maps,
    ``wh`` for the sizes, ``reg`` for the offsets. ``detections`` turns the outputs into boxes.

    Args:
        num_classes: number of classes.
        in_channels: number of channels of the images.
        width: number of channels after the first convolution; the others have two or four times as
            many.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        InputError: if a number is not a positive integer; on a call, if height and width are not
            multiples of 8.

    Source: Zhou, Wang, Krähenbühl, "Objects as Points", arXiv:1904.07850.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        width: int = 32,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        self.num_classes = check_positive("num_classes", num_classes)
        self.in_channels = check_positive("in_channels", in_channels)
        self.width = check_positive("width", width)
        kw: dict[str, Any] = {"bias": False, "rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = Conv2d(in_channels, width, 3, 2, 1, **kw)
        self.bn1 = BatchNorm2d(width, param_dtype=param_dtype)
        self.conv2 = Conv2d(width, 2 * width, 3, 2, 1, **kw)
        self.bn2 = BatchNorm2d(2 * width, param_dtype=param_dtype)
        self.conv3 = Conv2d(2 * width, 4 * width, 3, 2, 1, **kw)
        self.bn3 = BatchNorm2d(4 * width, param_dtype=param_dtype)
        self.conv4 = Conv2d(4 * width, 4 * width, 3, 1, 1, **kw)
        self.bn4 = BatchNorm2d(4 * width, param_dtype=param_dtype)
        self.deconv = ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, **kw)
        self.bn5 = BatchNorm2d(2 * width, param_dtype=param_dtype)
        kw["bias"] = True
        self.hm, self.wh, self.reg = (
            nnx.Sequential(
                Conv2d(2 * width, width, 3, 1, 1, **kw), ReLU(), Conv2d(width, outputs, 1, **kw)
            )
            for outputs in (num_classes, 2, 2)
        )
        bias = self.hm.layers[2].bias
        bias[...] = jnp.full_like(bias[...], math.log(_RARE / (1 - _RARE)))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {name: getattr(self, name) for name in ("num_classes", "in_channels", "width")}

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns [batch, height / 4, width / 4, num_classes + 4].

        The channels are a logit for each class, the width and height of a box, and the offset of
        its center, x and y. The unit of the last four is a position, which is ``STRIDE`` pixels.

        Args:
            images: floats [batch, height, width, in_channels].
        """
        check_floats("images", images, ("batch", "height", "width", self.in_channels))
        if any(size % _DIVISOR for size in images.shape[1:3]):
            expected = f"height and width that are multiples of {_DIVISOR}"
            raise InputError("images", expected, describe(images))
        x = jax.nn.relu(self.bn1(self.conv1(images)))  # [batch, height / 2, width / 2, width]
        fine = jax.nn.relu(self.bn2(self.conv2(x)))  # [batch, height / 4, width / 4, 2 width]
        x = jax.nn.relu(self.bn3(self.conv3(fine)))  # [batch, height / 8, width / 8, 4 width]
        x = jax.nn.relu(self.bn4(self.conv4(x)))
        x = jax.nn.relu(self.bn5(self.deconv(x)) + fine)
        return jnp.concatenate([self.hm(x), self.wh(x), self.reg(x)], axis=-1)


def detection_loss(
    outputs: ArrayLike,
    labels: Mapping[str, ArrayLike],
    *,
    size_weight: float = 0.1,
    offset_weight: float = 1.0,
) -> jax.Array:
    """Computes the loss of a ``CenterNet``: the sum for heat maps, sizes and offsets.

    With N objects in the batch, p the sigmoids of the heat maps and Y their targets of
    ``heat_maps``,
    (1/N) Σ -(1 - p)² log p where Y = 1, and -(1 - Y)⁴ p² log(1 - p) elsewhere: the focal loss, with
    less weight near a center. Sizes and offsets have the L1 loss at the centers.

    Args:
        outputs: the outputs of the network, [batch, rows, columns, num_classes + 4].
        labels: ``"boxes"``, floats [batch, objects, 4], in pixels; ``"labels"``, classes, integers
            [batch, objects], negative where there is no object.
        size_weight: the weight of the sizes.
        offset_weight: the weight of the offsets.

    Returns:
        A scalar.

    Raises:
        InputError: if an argument is invalid.

    Source: Zhou et al., section 3.
    """
    size_weight = check_number("size_weight", size_weight, least=0)
    offset_weight = check_number("offset_weight", offset_weight, least=0)
    outputs = _checked(outputs)
    logits, sizes, offsets = _parts(outputs)
    boxes, classes = _objects(labels, len(outputs))
    boxes = boxes.astype(outputs.dtype) / STRIDE
    real = classes >= 0
    extent = boxes[..., 2:] - boxes[..., :2]
    centers = (boxes[..., 2:] + boxes[..., :2]) / 2
    places = _places(centers, logits.shape[1:3])
    target = heat_maps(places, extent, classes, logits.shape)
    at_center = -jnp.square(jax.nn.sigmoid(-logits)) * jax.nn.log_sigmoid(logits)
    square = jnp.square(jax.nn.sigmoid(logits))
    elsewhere = -((1 - target) ** 4) * square * jax.nn.log_sigmoid(-logits)
    focal = jnp.sum(jnp.where(target == 1, at_center, elsewhere))
    row, column = places[..., 1], places[..., 0]
    image = jnp.arange(len(boxes))[:, None]
    wrong = (
        (size_weight, sizes[image, row, column] - extent),
        (offset_weight, offsets[image, row, column] - (centers - places.astype(centers.dtype))),
    )
    far = sum(
        weight * jnp.sum(jnp.where(real[..., None], jnp.abs(apart), 0)) for weight, apart in wrong
    )
    return (focal + far) / jnp.maximum(jnp.sum(real), 1).astype(outputs.dtype)


def heat_maps(
    places: jax.Array, extent: jax.Array, classes: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """Computes the targets of the heat maps: a Gaussian around the center of each object.

    Where Gaussians of the same class overlap, the target is the larger value.

    Args:
        places: column and row of each center, integers [batch, objects, 2].
        extent: width and height of each box in positions, floats [batch, objects, 2].
        classes: integers [batch, objects]; negative where there is no object.
        shape: images, rows, columns and classes.

    Returns:
        Floats from 0 to 1, [batch, rows, columns, classes]; 1 only at the centers.
    """
    _, rows, columns, num_classes = shape
    deviation = (2 * gaussian_radius(extent) + 1) / 6
    across = jnp.square(jnp.arange(columns, dtype=places.dtype)[None, None] - places[..., :1])
    down = jnp.square(jnp.arange(rows, dtype=places.dtype)[None, None] - places[..., 1:])
    distance = (down[..., :, None] + across[..., None, :]).astype(extent.dtype)
    hills = jnp.exp(-distance / (2 * deviation[..., None, None] ** 2))
    own = classes[..., None] == jnp.arange(num_classes, dtype=classes.dtype)[None, None]
    return jnp.max(jnp.where(own[:, :, None, None], hills[..., None], 0), axis=1)


def gaussian_radius(extent: jax.Array) -> jax.Array:
    """Computes how far the corners of a box may be off for an overlap of 0.7 with the true box.

    Args:
        extent: width and height, floats [..., 2].

    Returns:
        The smallest radius r at which both corners being off by r, inwards, outwards or in the same
        direction, leaves an intersection over union of 0.7: floats [...].

    Source: Law and Deng, "CornerNet", arXiv:1808.01244, and its code.
    """
    total, area = extent.sum(-1), extent.prod(-1)
    shifted = (total - jnp.sqrt(total**2 - 4 * area * (1 - _OVERLAP) / (1 + _OVERLAP))) / 2
    inside = (total - jnp.sqrt(total**2 - 4 * area * (1 - _OVERLAP))) / 4
    more = 4 * area * (1 - _OVERLAP) / _OVERLAP
    outside = (-total + jnp.sqrt(total**2 + more)) / 4
    return jnp.minimum(jnp.minimum(shifted, inside), outside)


def detections(outputs: ArrayLike, top_k: int = 100) -> Detections:
    """Converts the outputs of a ``CenterNet`` to boxes.

    An object is a position whose score is the largest in its 3×3 neighborhood on the heat map of
    its class.

    Args:
        outputs: the outputs of the network, [batch, rows, columns, num_classes + 4].
        top_k: the largest number of objects in an image.

    Returns:
        The objects with the highest scores, best first: boxes in pixels, [batch, n, 4], scores from
        0 to 1, and classes, -1 after the last object.

    Raises:
        InputError: if an argument is invalid.
    """
    check_positive("top_k", top_k)
    outputs = _checked(outputs)
    logits, sizes, offsets = _parts(outputs)
    heat = jax.nn.sigmoid(logits)
    peaks = jnp.where(MaxPool2d(3, 1, 1)(heat) == heat, heat, 0).reshape(len(heat), -1)
    scores, index = jax.lax.top_k(peaks, min(top_k, peaks.shape[1]))
    place, classes = jnp.divmod(index, logits.shape[-1])
    row, column = jnp.divmod(place, logits.shape[2])
    image = jnp.arange(len(heat))[:, None]
    places = jnp.stack([column, row], axis=-1).astype(outputs.dtype)
    centers = places + offsets[image, row, column]
    half = sizes[image, row, column] / 2
    boxes = STRIDE * jnp.concatenate([centers - half, centers + half], axis=-1)
    return Detections(boxes, scores, jnp.where(scores > 0, classes, -1).astype(jnp.int32))


def _checked(outputs: ArrayLike) -> jax.Array:
    array = as_array("outputs", outputs)
    floats = jnp.issubdtype(array.dtype, jnp.floating)
    if array.ndim != 4 or array.shape[-1] < 5 or not floats:
        expected = "floats [batch, rows, columns, num_classes + 4]"
        raise InputError("outputs", expected, describe(array))
    return array


def _objects(labels: Any, images: int) -> tuple[jax.Array, jax.Array]:
    """Checks labels, and returns the boxes and the classes."""
    if not isinstance(labels, Mapping) or not {"boxes", "labels"} <= set(labels):
        raise InputError("labels", "a dictionary of boxes and labels", labels)
    boxes, classes = (as_array(f"labels.{name}", labels[name]) for name in ("boxes", "labels"))
    if boxes.ndim != 3 or boxes.shape[0] != images or boxes.shape[2] != 4:
        raise InputError("labels.boxes", f"floats [{images}, objects, 4]", describe(boxes))
    if classes.shape != boxes.shape[:2] or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise InputError("labels.labels", f"integers {list(boxes.shape[:2])}", describe(classes))
    return boxes, classes


def _parts(outputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Divides outputs into the logits of the heat maps, the sizes and the offsets."""
    return outputs[..., :-4], outputs[..., -4:-2], outputs[..., -2:]


def _places(centers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the column and the row of each center, inside of the heat maps."""
    last = jnp.array([[[shape[1] - 1, shape[0] - 1]]], jnp.int32)
    return jnp.clip(jnp.floor(centers).astype(jnp.int32), 0, last)
