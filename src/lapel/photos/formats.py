"""Which files are photos that can be read: what Pillow reads, and HEIC where its extra is installed."""

import importlib.util
from functools import cache

from PIL import Image

# What Pillow knows, too, and is no photo: vector graphics that need other programs, film, and tables of measurements.
NO_PHOTOS = {
    ".eps", ".ps", ".emf", ".wmf", ".mpg", ".mpeg", ".bufr", ".grib", ".h5", ".hdf", ".fit", ".fits", ".cur", ".ico",
    ".icns", ".gbr", ".iim",
}  # fmt: skip

# Pictures and film that nothing here reads: cameras' raw files, newer and vector formats.
UNREAD = {
    ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".raw", ".rw2", ".jxl", ".jxr", ".svg", ".ai",
    ".pdf", ".xcf", ".mov", ".mp4", ".avi", ".webm", ".mkv", ".m4v",
}  # fmt: skip

# Photos of newer telephones.
HEIC_SUFFIXES = {".heic", ".heif", ".hif"}
HEIC_EXTRA = "pillow_heif"


def suffix(name: str) -> str:
    """A file name's suffix, in small letters, with its dot; empty where it has none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


def is_readable(name: str) -> bool:
    """Whether a file's name is that of a photo that can be read here."""
    return suffix(name) in suffixes()


@cache
def suffixes() -> frozenset[str]:
    """Of all photos that can be read here."""
    know_heic()
    Image.init()
    # MPO, several JPEGs in a file, is opened as a JPEG.
    known = {each for each, kind in Image.registered_extensions().items() if kind in Image.OPEN or kind == "MPO"}
    return frozenset(known - NO_PHOTOS)


@cache
def know_heic() -> bool:
    """Have Pillow read HEIC, where the extra that does so is installed; whether it is."""
    if importlib.util.find_spec(HEIC_EXTRA) is None:
        return False
    import pillow_heif  # pyright: ignore[reportMissingImports]  # an extra

    pillow_heif.register_heif_opener()
    return True


def shows_something(name: str) -> bool:
    """Whether a file's name is that of a picture or film, readable here or not."""
    return is_readable(name) or suffix(name) in UNREAD | NO_PHOTOS | HEIC_SUFFIXES


def install_hint(kind: str) -> str:
    """What to install for a suffix that could be read; empty for others."""
    if kind not in HEIC_SUFFIXES or know_heic():
        return ""
    return " (to read them: pip install pillow-heif)"
