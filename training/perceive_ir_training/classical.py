"""What classical methods give for each task, to have something beside a model's numbers.

None of them sees the target, and no setting was tuned on pictures that scores are reported on: they are those of the
literature, or follow from the noise that is estimated from the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]
Method = Callable[[Pixels], Pixels]

WIDTHS = (0.4, 0.6, 0.8, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Deviations of the Gaussians that are tried, in pixels."""
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Brightness and two colours, orthonormal: white noise stays white."""
LUMA = np.array([0.299, 0.587, 0.114])
DARK_WINDOW, GUIDED_RADIUS, GUIDED_SOFTNESS = 15, 60, 1e-3
HAZE_TAKEN, THINNEST = 0.95, 0.1
"""Share of the haze that is removed, and the least transmission that is divided by."""
ASSUMED_BLUR = 1.5
"""Deviation in pixels of the Gaussian that Wiener's filter undoes; the true blur is not known to it."""


def methods_for(task: str | None, *, microscopy: bool = False) -> Mapping[str, Method]:
    """Return the methods of a task by name; none for tasks without one."""
    own = {"gaussian": gaussian} if microscopy and task == "denoise" else {}
    return {**METHODS.get(task or "", {}), **own}


# ---- noise


def wavelet(image: Pixels) -> Pixels:
    """Denoise by an undecimated Haar wavelet with soft BayesShrink thresholds in an opponent colour space."""
    levels = 4
    opponent = image / 255.0 @ OPPONENT.T
    around = 2**levels
    padded = np.pad(opponent, ((around, around), (around, around), (0, 0)), mode="symmetric")
    planes = [shrink(padded[..., n], estimated_sigma(opponent[..., n : n + 1]), levels) for n in range(3)]
    kept = np.stack(planes, axis=-1)[around:-around, around:-around]
    return rounded(kept @ OPPONENT)


def shrink(plane: Values, sigma: float, levels: int, step: int = 1) -> Values:
    """Shrink the details of a plane; each level halves the deviation of the noise and doubles the step."""
    if levels == 0:
        return plane
    (smooth, vertical), (horizontal, diagonal) = (split(part, 1, step) for part in split(plane, 0, step))
    half = sigma / 2
    smooth = shrink(smooth, half, levels - 1, 2 * step)
    upper = join(smooth, soft(vertical, half), 1, step)
    lower = join(soft(horizontal, half), soft(diagonal, half), 1, step)
    return join(upper, lower, 0, step)


def split(values: Values, axis: int, step: int) -> tuple[Values, Values]:
    """Return half the sum and half the difference with the neighbour ``step`` pixels on."""
    other = np.roll(values, -step, axis)
    return (values + other) / 2, (values - other) / 2


def join(smooth: Values, detail: Values, axis: int, step: int) -> Values:
    """Undo `split`: the mean of both ways to do so."""
    return (smooth + detail + np.roll(smooth - detail, step, axis)) / 2


def soft(detail: Values, sigma: float) -> Values:
    """Move details towards 0 by the threshold of BayesShrink, sigma² / deviation of what is not noise."""
    signal = math.sqrt(max(float(np.mean(detail**2)) - sigma**2, 1e-12))
    shrunk: Values = np.sign(detail) * np.maximum(np.abs(detail) - sigma**2 / signal, 0)
    return shrunk


def non_local_means(image: Pixels) -> Pixels:
    """Denoise by scikit-image's fast non-local means, at the noise estimated from the picture."""
    from skimage.restoration import denoise_nl_means

    values = image / 255.0
    sigma = estimated_sigma(values)
    if sigma == 0:
        return image
    out: Values = denoise_nl_means(
        values, h=0.8 * sigma, sigma=sigma, patch_size=5, patch_distance=6, fast_mode=True, channel_axis=-1
    )
    return rounded(out)


def gaussian(image: Pixels) -> Pixels:
    """Smooth by the Gaussian of least expected error, found without a target.

    Stein's estimate for a linear filter G with the centre weight g and noise of variance σ²:
    ``E|Gy - x|² = mean |Gy - y|² + 2 σ² g - σ²``.
    """
    values = image / 255.0
    variance = estimated_sigma(values) ** 2
    best, least = values, variance
    for width in WIDTHS:
        smooth = blurred(values, width)
        risk = float(np.mean((smooth - values) ** 2)) + 2 * variance * centre_weight(width) - variance
        if risk < least:
            best, least = smooth, risk
    return rounded(best)


def blurred(values: Values, width: float) -> Values:
    """Blur (H, W, C) by a Gaussian."""
    out: Values = ndimage.gaussian_filter(values, (width, width, 0))
    return out


def centre_weight(width: float) -> float:
    """Weight of a pixel in its own Gaussian mean."""
    line = np.zeros(81)
    line[40] = 1
    return float(ndimage.gaussian_filter1d(line, width)[40]) ** 2


def estimated_sigma(values: Values, groups: int = 16) -> float:
    """Deviation of the noise in (H, W, C), by the diagonal Haar details.

    Their median is taken among pixels of like brightness, since noise grows with the signal, and the mean variance of
    these groups counts.
    """
    h, w = (n // 2 * 2 for n in values.shape[:2])
    a, b, c, d = (values[y:h:2, x:w:2].ravel() for y in (0, 1) for x in (0, 1))
    by_brightness = np.array_split(np.abs(a - b - c + d)[np.argsort(a + b + c + d, kind="stable")] / 2, groups)
    medians = [np.median(part) for part in by_brightness if part.size]
    return float(np.sqrt(np.mean(np.square(medians)))) / 0.6745 if medians else 0.0


# ---- haze, darkness, rain, blur


def dark_channel(image: Pixels) -> Pixels:
    """Remove haze by the dark channel prior (He, Sun and Tang 2009), refined by a guided filter."""
    values = image / 255.0
    light = airlight(values)
    haze = ndimage.minimum_filter((values / light).min(axis=-1), DARK_WINDOW)
    thickness = guided_filter(values @ LUMA, 1 - HAZE_TAKEN * haze)
    transmission = thickness.clip(THINNEST, 1)[..., None]
    return rounded((values - light) / transmission + light)


def airlight(values: Values) -> Values:
    """Colour of the haze, (3,): the mean where the dark channel is brightest, in one pixel of a thousand."""
    dark = ndimage.minimum_filter(values.min(axis=-1), DARK_WINDOW).ravel()
    count = max(1, dark.size // 1000)
    brightest = np.argpartition(dark, -count)[-count:]
    colour: Values = values.reshape(-1, 3)[brightest].mean(axis=0)
    return colour.clip(0.05, 1)


def guided_filter(guide: Values, values: Values) -> Values:
    """Smooth a plane along the edges of a guide (He, Sun and Tang 2010): ``a * guide + b`` in every window."""

    def mean(plane: Values) -> Values:
        out: Values = ndimage.uniform_filter(plane, 2 * GUIDED_RADIUS + 1)
        return out

    middle, level = mean(guide), mean(values)
    covariance = mean(guide * values) - middle * level
    a = covariance / (mean(guide * guide) - middle**2 + GUIDED_SOFTNESS)
    return mean(a) * guide + mean(level - a * middle)


def auto_gamma(image: Pixels) -> Pixels:
    """Brighten by the power that moves the mean brightness to one half."""
    values = image / 255.0
    mean = float((values @ LUMA).mean())
    power = math.log(0.5) / math.log(min(max(mean, 1 / 255), 0.5))
    return rounded(values**power)


def median(image: Pixels) -> Pixels:
    """Take the median of 3 x 3 pixels, which removes thin streaks."""
    out: Pixels = ndimage.median_filter(image, (3, 3, 1))
    return out


def unsharp(image: Pixels) -> Pixels:
    """Add once what a Gaussian of one pixel takes away."""
    values = image / 255.0
    return rounded(2 * values - blurred(values, 1.0))


def wiener(image: Pixels) -> Pixels:
    """Undo an assumed Gaussian blur by Wiener's filter, at the noise estimated from the picture."""
    values = image / 255.0
    ratio = max(estimated_sigma(values) ** 2 / max(float(values.var()), 1e-6), 1e-2)
    around = math.ceil(4 * ASSUMED_BLUR)
    padded = np.pad(values, ((around, around), (around, around), (0, 0)), mode="symmetric")
    rows, columns = (np.exp(-2 * (math.pi * ASSUMED_BLUR * np.fft.fftfreq(n)) ** 2) for n in padded.shape[:2])
    transfer = rows[:, None, None] * columns[None, :, None]
    inverse = (1 + ratio) * transfer / (transfer**2 + ratio)  # 1 for the mean, which must stay
    spectrum = np.fft.fft2(padded, axes=(0, 1)) * inverse
    sharp: Values = np.fft.ifft2(spectrum, axes=(0, 1)).real[around:-around, around:-around]
    return rounded(sharp)


def rounded(values: Values) -> Pixels:
    """Turn values in [0, 1] into uint8."""
    pixels: Pixels = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return pixels


METHODS: Mapping[str, Mapping[str, Method]] = {
    "denoise": {"wavelet": wavelet, "non-local means": non_local_means},
    "dehaze": {"dark channel": dark_channel},
    "brighten": {"auto-gamma": auto_gamma},
    "derain": {"median": median},
    "deblur": {"unsharp": unsharp, "wiener": wiener},
}
