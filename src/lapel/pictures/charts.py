"""Charts, drawn by matplotlib without a display."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def curve(
    x: np.ndarray, lines: dict[str, np.ndarray], x_label: str, mark: float | None = None, caption: str = ""
) -> Image.Image:
    """Lines over a logarithmic axis.

    Args:
        x: ascending, above 0.
        lines: name -> values.
        x_label: what x is.
        mark: an x at which a dashed line stands.
        caption: of the mark.
    """
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(lines.items()):
        axes.plot(x, values, label=name, linewidth=0.8 if number == 0 else 2.0, alpha=0.5 if number == 0 else 1.0)
    axes.set_xscale("log")
    axes.set_xlabel(x_label)
    axes.grid(visible=True, alpha=0.3)
    if mark is not None:
        axes.axvline(mark, linestyle="--", color="black", linewidth=1, label=f"{caption}: {mark:.2g}")
    axes.legend()
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
