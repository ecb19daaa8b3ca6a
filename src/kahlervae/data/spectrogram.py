"""The short-time Fourier transform of recordings, tight and without the bins that are cropped."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

if TYPE_CHECKING:
    from scipy.signal import ShortTimeFFT

__all__ = ["DECADES", "FLOOR", "Spectrogram", "log_power"]

FLOOR = 1e-4
"""Power, in units of the mean square of the recordings, that counts as silence."""
DECADES = 6.0
"""Powers of ten from silence up to the brightest."""


def log_power(power: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Power on a scale from silence, 0, to the brightest, 1.

    .. math:: \frac{1}{6} \log_{10}\frac{p + p_0}{p_0}, \qquad p_0 = 10^{-4}

    Example:
        >>> log_power(torch.tensor([0.0, 0.0999, 1e4])).tolist()
        [0.0, 0.5, 1.0]
    """
    return (torch.log10(power / FLOOR + 1) / DECADES).clamp(max=1)


class _Sizes(NamedTuple):
    length: int
    window: int
    hop: int
    lowest: int
    highest: int


class Spectrogram(_Sizes):
    r"""A short-time Fourier transform by :class:`scipy.signal.ShortTimeFFT`.

    The window is Hann's, made tight, :math:`w / (\sum_k w^2[n - kh])^{1/2}`, and coefficients are
    scaled so that the squares of all bins of a recording sum up to those of the recording. What is
    cropped are the bins below ``lowest`` and above ``highest``; :meth:`invert` takes them for 0,
    and is exact otherwise.

    Args:
        length: Values of a recording.
        window: Values under the window, an even number.
        hop: Values from one frame to the next, at most half of the window.
        lowest: First bin that is kept.
        highest: Last one, at most half of the window.

    Raises:
        ValueError: the sizes do not fit each other.

    Example:
        >>> spectrogram = Spectrogram(length=480, window=64, hop=32, lowest=0, highest=32)
        >>> spectrogram.shape
        (33, 16)
        >>> x = torch.randn(2, 480)
        >>> torch.allclose(spectrogram.invert(spectrogram.transform(x)), x, atol=1e-5)
        True
    """

    def __new__(
        cls, length: int, window: int, hop: int, lowest: int, highest: int
    ) -> "Spectrogram":
        fits = 0 < hop <= window // 2 and 0 <= lowest <= highest <= window // 2
        if window % 2 or length < window or not fits:
            raise ValueError(
                f"a window of {window} values, {hop} apart, with bins {lowest} to {highest} does "
                f"not fit recordings of {length}: the window is even and no longer than a "
                "recording, the hop and the highest bin are at most half of it"
            )
        return super().__new__(cls, length, window, hop, lowest, highest)

    @cached_property
    def _stft(self) -> "ShortTimeFFT":
        from scipy.signal import ShortTimeFFT
        from scipy.signal.windows import hann

        window = hann(self.window, sym=False)
        # The sum over all shifts by the hop, at every value under the window.
        shifts = np.arange(self.window)
        power = np.array(
            [np.square(window[shifts % self.hop == n % self.hop]).sum() for n in shifts]
        )
        return ShortTimeFFT(window / np.sqrt(power), self.hop, fs=1.0, fft_mode="onesided")

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Bins and frames."""
        frames = self._stft.p_num(self.length)
        return self.highest - self.lowest + 1, frames

    @cached_property
    def _scale(self) -> Float[np.ndarray, "bins 1"]:
        """Of an orthonormal transform whose bins stand for their mirror images, too."""
        twice = np.full(self.window // 2 + 1, 2.0)
        twice[[0, -1]] = 1.0
        return np.sqrt(twice / self.window)[:, None]

    def transform(self, x: Float[Tensor, "n length"]) -> Complex[Tensor, "n bins frames"]:
        """The coefficients of recordings."""
        all_bins = self._stft.stft(x.cpu().double().numpy(), axis=-1) * self._scale
        kept = torch.from_numpy(np.ascontiguousarray(all_bins[:, self.lowest : self.highest + 1]))
        return kept.to(x.device, torch.promote_types(x.dtype, torch.complex32))

    def invert(self, coefficients: Complex[Tensor, "n bins frames"]) -> Float[Tensor, "n length"]:
        """The recordings with these coefficients."""
        kept = coefficients.cpu().to(torch.complex128).numpy()
        below = np.zeros((len(kept), self.lowest, kept.shape[2]))
        above = np.zeros((len(kept), self.window // 2 - self.highest, kept.shape[2]))
        all_bins = np.concatenate([below, kept, above], axis=1) / self._scale
        x = self._stft.istft(all_bins, k1=self.length)
        return torch.from_numpy(x).to(coefficients.device, coefficients.real.dtype)
