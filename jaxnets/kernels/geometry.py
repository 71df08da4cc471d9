"""Where a convolution looks."""

from dataclasses import dataclass

#: Before and after each spatial axis: zeros added, or where negative, positions cut off.
Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Geometry:
    """Where a convolution looks; one entry per spatial axis.

    Attributes:
        stride: steps between two neighbouring outputs, on the dilated and padded input.
        padding: zeros before and after the dilated input; a negative number cuts.
        dilation: steps between two neighbouring taps of the kernel.
        input_dilation: steps between two neighbouring inputs, with zeros in between. A transposed
            convolution of stride s has input dilation s.
        groups: into how many independent blocks the channels are cut.
    """

    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    groups: int = 1

    @property
    def dense(self) -> bool:
        """Whether all neighbours and all channels are looked at, from every position."""
        steps = (*self.stride, *self.dilation, *self.input_dilation, self.groups)
        return all(step == 1 for step in steps)
