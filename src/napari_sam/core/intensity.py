"""From raw pixel values to the 8-bit RGB that models see: one mapping per volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import IntensityError

if TYPE_CHECKING:
    from collections.abc import Sequence

CT_PRESETS: dict[str, tuple[float, float]] = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
    "liver": (-45.0, 105.0),
}
"""CT windows as (low, high) in Hounsfield units, after the usual level/width pairs."""


@dataclass(frozen=True, slots=True)
class IntensityMapping:
    """How raw values become the model's input; the same for every tile of a volume.

    Each channel is clipped to its window, scaled to 0..1, raised to `gamma` and
    inverted on request; the channels are mixed into red, green and blue, clipped and
    scaled to 0..255. NaN becomes the low end of the window.

    Examples
    --------
    >>> ct = IntensityMapping(windows=(CT_PRESETS["soft tissue"],))
    >>> ct.apply(np.array([[-1000.0, 40.0, 3000.0]]))[0, :, 0].tolist()
    [0, 128, 255]
    """

    windows: tuple[tuple[float, float], ...] = ((0.0, 255.0),)
    """(low, high) raw values that become black and white, for each channel."""
    mix: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 1.0),)
    """Weights of each channel in (red, green, blue)."""
    gamma: float = 1.0
    invert: bool = False
    nodata: float | None = None
    """Raw value that stands for "no data" and is shown black; NaN always is."""

    def __post_init__(self) -> None:
        if not self.windows or len(self.windows) != len(self.mix):
            raise IntensityError(
                "an intensity mapping needs one (low, high) window and one RGB weight "
                f"per channel; got {len(self.windows)} and {len(self.mix)}"
            )
        for low, high in self.windows:
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise IntensityError(
                    f"an intensity window needs finite low < high; got ({low}, {high})"
                )
        if not (np.isfinite(self.gamma) and self.gamma > 0):
            raise IntensityError(f"gamma must be above 0; got {self.gamma}")

    @classmethod
    def grey(cls, low: float, high: float, **options: Any) -> IntensityMapping:
        """One channel shown as grey between two raw values."""
        return cls(windows=((float(low), float(high)),), **options)

    @classmethod
    def rgb(cls, low: float = 0.0, high: float = 255.0) -> IntensityMapping:
        """Colour pictures as they are."""
        eye = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        return cls(windows=((float(low), float(high)),) * 3, mix=eye)

    @classmethod
    def from_sample(
        cls,
        sample: np.ndarray,
        *,
        n_channels: int = 1,
        percentiles: tuple[float, float] = (0.1, 99.9),
    ) -> IntensityMapping:
        """Windows from percentiles of a sample of the volume.

        Parameters
        ----------
        sample : ndarray, (..., n_channels) or any shape for one channel
            Raw values; values that are not finite are left out.
        n_channels : int
            1 is shown grey; 2 to 6 channels get the colours of `channel_colors`.
        percentiles : tuple of float
            Low and high percentile, 0..100.
        """
        flat = np.asarray(sample).reshape(-1, n_channels)
        windows = tuple(_percentile_window(c, percentiles) for c in flat.T)
        return cls(windows=windows, mix=channel_colors(n_channels))

    @property
    def n_channels(self) -> int:
        """Channels that `apply` expects."""
        return len(self.windows)

    def with_window(self, low: float, high: float) -> IntensityMapping:
        """Return the same mapping with one window for all channels."""
        return replace(self, windows=((float(low), float(high)),) * self.n_channels)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Map raw pixels to model input.

        Parameters
        ----------
        pixels : ndarray, (h, w) or (h, w, C)
            Raw values of any real dtype.

        Returns
        -------
        ndarray, (h, w, 3), uint8

        Raises
        ------
        IntensityError
            If the pixels have another number of channels than the mapping.
        """
        stack = pixels[..., None] if pixels.ndim == 2 else pixels
        if stack.ndim != 3 or stack.shape[2] != self.n_channels:
            raise IntensityError(
                f"this mapping has {self.n_channels} channel(s); got pixels of shape "
                f"{pixels.shape}. Choose channels when opening the volume."
            )
        if self._passes_through(pixels.dtype):
            return np.ascontiguousarray(stack)
        out = np.zeros((*stack.shape[:2], 3), np.float32)
        for c, (window, weights) in enumerate(zip(self.windows, self.mix, strict=True)):
            unit = self._unit(stack[..., c], window)
            if self.n_channels == 1 and len(set(weights)) == 1:
                grey = np.clip(unit * (weights[0] * 255.0) + 0.5, 0, 255)
                return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
            for rgb, weight in enumerate(weights):
                if weight:
                    out[..., rgb] += unit * weight
        return np.asarray(np.clip(out * 255.0 + 0.5, 0, 255), np.uint8)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for files and signatures."""
        out: dict[str, Any] = {
            "windows": [list(w) for w in self.windows],
            "mix": [list(m) for m in self.mix],
            "gamma": self.gamma,
            "invert": self.invert,
        }
        return out if self.nodata is None else {**out, "nodata": self.nodata}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> IntensityMapping:
        """Read what `to_json` wrote."""
        return cls(
            windows=tuple((float(a), float(b)) for a, b in value["windows"]),
            mix=tuple((float(r), float(g), float(b)) for r, g, b in value["mix"]),
            gamma=float(value["gamma"]),
            invert=bool(value["invert"]),
            nodata=None if value.get("nodata") is None else float(value["nodata"]),
        )

    def _passes_through(self, dtype: np.dtype[Any]) -> bool:
        return dtype == np.uint8 and self == IntensityMapping.rgb()

    def _unit(self, channel: np.ndarray, window: tuple[float, float]) -> np.ndarray:
        low, high = window
        # float32 would lose the steps of a narrow window far from zero.
        narrow = channel.dtype.itemsize <= 2 or channel.dtype == np.float32
        wide = np.float32 if narrow else np.float64
        with np.errstate(over="ignore"):  # no-data values such as -1.8e308
            unit = np.subtract(channel, low, dtype=wide)
            unit /= high - low
        np.nan_to_num(unit, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        np.clip(unit, 0.0, 1.0, out=unit)
        if self.gamma != 1.0:
            np.power(unit, self.gamma, out=unit)
        if self.invert:
            np.subtract(1.0, unit, out=unit)
        if self.nodata is not None:
            unit[channel == self.nodata] = 0.0
        return np.asarray(unit)


def channel_colors(n_channels: int) -> tuple[tuple[float, float, float], ...]:
    """RGB weights for 1 to 6 fluorescence channels: grey, then green, magenta, ..."""
    if n_channels == 1:
        return ((1.0, 1.0, 1.0),)
    if n_channels == 2:
        return ((0.0, 1.0, 0.0), (1.0, 0.0, 1.0))
    colors = (
        (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0),
        (1.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0),
    )  # fmt: skip
    if n_channels > len(colors):
        raise IntensityError(
            f"{n_channels} channels cannot be shown at once: choose at most "
            f"{len(colors)} with channels=[...]"
        )
    return colors[:n_channels]


def _percentile_window(
    values: np.ndarray, percentiles: Sequence[float]
) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise IntensityError(
            "the sampled pixels are all NaN or infinite, so no intensity window can be "
            "found: open an image with values, or give a window (intensity=(low, high) "
            "in Python, --intensity LOW,HIGH on the command line)"
        )
    low, high = (float(v) for v in np.percentile(finite, percentiles))
    if low >= high:
        low, high = float(finite.min()), float(finite.max())
    if low >= high:
        high = low + 1.0
    return low, high
