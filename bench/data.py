"""Getting a data set of photos ready: `lapel-data prepare`, against a bare parallel Pillow loop over the same files.

    python bench/data.py [data=fashion_product data.root=FOLDER] [overrides of lapel-data]

Where no data is named, photos are drawn, of 400x300 pixels, ten for each of 400 items.

The bare loop decodes every photo to RGB on all cores and throws it away. `prepare` starts from an empty cache, in a
process of its own, from the start of Python on; then it is asked again. Memory is that of the process and its workers,
each page counted once, in a call of its own: looking slows down what is looked at, by a fifth. Each figure is one JSON
object a line; the loop and `prepare` take turns, the medians count.
"""

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lapel import datasets
from lapel.commands.hydra_app import quoted_arguments
from lapel.config.composing import compose
from lapel.machine.cores import available_cores
from lapel.photos.tree import LocatedFiles

ROUNDS = 3
CHUNK = 256
DRAWN_ITEMS, DRAWN_VIEWS = 400, 10
PREPARE = [sys.executable, "-c", "from lapel.commands.data import main; main()", "prepare"]


def main() -> None:
    """Measure, then print."""
    with tempfile.TemporaryDirectory() as scratch:
        overrides = sys.argv[1:] or drawn_photos(Path(scratch) / "photos")
        files = photo_files(overrides, Path(scratch) / "listing")
        shutil.rmtree(Path(scratch) / "listing")
        bare, first, again = [], [], []
        for number in range(ROUNDS):
            bare.append(bare_loop(*files))
            cache = Path(scratch) / str(number)
            first.append(seconds_to_prepare(overrides, cache))
            again.append(seconds_to_prepare(overrides, cache))
            shutil.rmtree(cache)  # else the next turn is timed while the disk still writes this one
        memory = memory_to_prepare(overrides, Path(scratch) / "memory")
    name = next((each for each in overrides if each.startswith("data=")), "data").partition("=")[2]
    tell(f"data/{name}/prepare", statistics.median(first), "s", "bare Pillow loop", statistics.median(bare))
    tell(f"data/{name}/prepare again", statistics.median(again), "s", "a second", 1.0)
    tell(f"data/{name}/prepare, memory", memory, "MB", "1.5 GB", 1500.0)


def drawn_photos(folder: Path) -> list[str]:
    """Draw photos of smooth noise, each another one; what lapel-data is told of them."""
    generator = np.random.default_rng(0)
    for item in range(DRAWN_ITEMS):
        (folder / str(item)).mkdir(parents=True)
        for view in range(DRAWN_VIEWS):
            grains = generator.integers(0, 256, (16, 12, 3), dtype=np.uint8)
            Image.fromarray(grains).resize((300, 400), Image.Resampling.BICUBIC).save(folder / f"{item}/{view}.jpg")
    return ["data=folder", f"data.root={folder}", "data.size=80x60"]


def tell(name: str, value: float, unit: str, peer: str, peer_value: float) -> None:
    """One line; ratio > 1 means better than the peer."""
    figures = {"value": round(value, 2), "unit": unit, "peer": peer, "peer_value": round(peer_value, 2)}
    print(json.dumps({"name": name, **figures, "ratio": round(peer_value / value, 3)}), flush=True)


def photo_files(overrides: list[str], cache: Path) -> tuple[str | None, list[str]]:
    """The archive that holds the photos, or None, and their names in it, or paths."""
    options = [*overrides, f"data.cache={cache}"]
    catalog = datasets.load(compose("catalog", quoted_arguments(options, "catalog")).data)
    assert catalog.photos is not None
    files = catalog.photos.photos.files
    assert isinstance(files, LocatedFiles)
    located = [files[int(position)] for position in catalog.photos.positions]
    if located[0].header < 0:
        return None, [each.path for each in located]
    archive = located[0].path
    with zipfile.ZipFile(archive) as opened:
        return archive, [entry.filename for entry in opened.infolist() if not entry.filename.endswith(("/", ".csv"))]


def bare_loop(archive: str | None, names: list[str]) -> float:
    """Seconds to decode every photo on all cores."""
    started = time.perf_counter()
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    with ProcessPoolExecutor(available_cores()) as pool:
        decoded = sum(pool.map(partial(decode, archive), chunks))
    assert decoded == len(names)
    return time.perf_counter() - started


OPENED: dict[str, zipfile.ZipFile] = {}


def decode(archive: str | None, names: list[str]) -> int:
    """Decode photos, of an archive that is opened once in each process; how many."""
    if archive is not None and archive not in OPENED:
        OPENED[archive] = zipfile.ZipFile(archive)
    for name in names:
        source = name if archive is None else io.BytesIO(OPENED[archive].read(name))
        with Image.open(source) as image:
            image.convert("RGB").load()
    return len(names)


def start_prepare(overrides: list[str], cache: Path) -> subprocess.Popen[bytes]:
    """Begin a `lapel-data prepare`."""
    return subprocess.Popen([*PREPARE, *overrides, f"data.cache={cache}"], stdout=subprocess.DEVNULL)


def seconds_to_prepare(overrides: list[str], cache: Path) -> float:
    """Of one `lapel-data prepare`."""
    started = time.perf_counter()
    failed = start_prepare(overrides, cache).wait()
    if failed:
        sys.exit(failed)
    return time.perf_counter() - started


def memory_to_prepare(overrides: list[str], cache: Path) -> float:
    """Highest megabytes of one `lapel-data prepare`."""
    process, highest = start_prepare(overrides, cache), 0.0
    while process.poll() is None:
        highest = max(highest, sum(proportional_memory(pid) for pid in family(process.pid)))
        time.sleep(0.1)
    return highest


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *map(int, children)]


def proportional_memory(pid: int) -> float:
    """Megabytes of a process, pages that it shares divided by their sharers; 0 where that cannot be seen."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:")), 0.0)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
