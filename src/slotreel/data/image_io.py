"""Pictures and label masks on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from slotreel.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_ALPHA = ("la", "pa", "rgba")
IGNORE = 255  # label of pixels that no score and no loss may count


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """A picture as uint8 (H, W, 3), pixels as stored (EXIF orientation is not applied).

    JPEG and PNG are decoded by torchvision; what it does not know (BMP, CMYK, 16 bits) by PIL.

    Raises:
        DataError: the file is missing, empty or damaged.
    """
    try:
        from torchvision import io  # here, because it takes seconds and not all data needs it

        pixels = io.decode_image(io.read_file(os.fspath(path)), mode=io.ImageReadMode.RGB)
    except (RuntimeError, ImportError, AttributeError):  # 0.29 announces the end of its decoders
        return _read_with_pil(path)
    if pixels.dtype != torch.uint8:
        return _read_with_pil(path)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _read_with_pil(path: str | os.PathLike[str]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits of grey, which PIL would cut off at 255
                return np.repeat((np.array(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot read the picture {path}: {_reason(path, error)}") from error


def _reason(path: str | os.PathLike[str], error: Exception) -> str:
    file = Path(path)
    if not file.is_file():
        return "there is no such file"
    if file.stat().st_size == 0:
        return "the file is empty (0 bytes); copy it again"
    return f"{error}; the file is damaged or not a picture, copy it again"


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(H, W) of a picture, from its header alone.

    Raises:
        DataError: the header cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot read the picture {path}: {_reason(path, error)}") from error


def write_image(path: str | os.PathLike[str], image: np.ndarray, quality: int = 95) -> None:
    """Write uint8 (H, W, 3) in the format of the suffix; ``quality`` is JPEG's, 1 to 100."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        picture.save(path, quality=quality)
    else:
        picture.save(path)


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Ids uint8 (H, W) of a palette, grey or one-bit picture; 255 means ignore.

    Raises:
        DataError: the file is missing or damaged, is a colour picture, or holds ids over 255.
    """
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot read the mask {path}: {_reason(path, error)}") from error
    if values.ndim != 2:
        kind = "has an alpha channel" if mode.lower() in _ALPHA else "is a colour picture"
        raise DataError(
            f"the mask {path} {kind} (mode {mode}): expected one id per pixel, as a "
            "palette or grey PNG. Give each colour an id and store it with "
            "slotreel.data.image_io.write_labels(path, ids)"
        )
    if values.min() < 0 or values.max() > 255:
        raise DataError(
            f"the mask {path} holds ids from {values.min()} to {values.max()}: expected 0 "
            "(background) to 254 and 255 for pixels to ignore"
        )
    return values.astype(np.uint8)


def davis_palette() -> np.ndarray:
    """The 256 colours uint8 (256, 3) of VOC and DAVIS masks.

    Bits 0, 1, 2 of an id are the highest bits of red, green, blue; the next three come below.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for level in range(3):
        for channel in range(3):
            bit = (ids >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette


def write_labels(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write uint8 (H, W) ids as an indexed PNG in the DAVIS palette.

    Raises:
        ValueError: labels are not uint8 (H, W).
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"labels must be uint8 (H, W), got {labels.dtype} {labels.shape}")
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(davis_palette().tobytes())  # turns the grey picture into an indexed one
    image.save(path, format="PNG")
