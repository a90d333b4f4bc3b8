"""What every metric here has in common as a picture: shares on an axis from 0 to 1, drawn by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchmetrics import Metric

Drawable = Tensor | Sequence[Tensor] | dict[str, Tensor] | Sequence[dict[str, Tensor]]


class ShareMetric(Metric):
    """A metric whose values are shares, and which can draw them.

    Example:
        >>> from core_lightning.metrics import PassAtK
        >>> import torch
        >>> metric = PassAtK(k=1)
        >>> metric.update(n=torch.tensor([4, 4]), c=torch.tensor([1, 4]))
        >>> figure, axes = metric.plot()
        >>> axes.get_lines()[0].get_ydata()
        array([0.625])
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def plot(self, val: Drawable | None = None, ax: Any = None) -> Any:
        """Draw one value as a point, or the values of several steps as a line.

        Args:
            val: What :meth:`compute` or :meth:`forward` returned, or a list of that; None for the present value.
            ax: Axes of matplotlib to draw on; None makes a figure.

        Returns:
            Figure and axes.
        """
        return self._plot(val, ax)
