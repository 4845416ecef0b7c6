"""Resize pictures and convert them to another format.

Every picture becomes a square of `--size` pixels. Where no folder is named, the input is the pictures that this Python
and the packages installed in it bring along, each taken `--times` times. Where there is none, the program draws some.
A file that Pillow cannot read is named, and the job goes on.

The output is checked: every file opens and has the size and the format asked for, and those of a sample of the pictures
have, pixel for pixel, what the same function gives in this process.

    python benchmarks/jobs/images.py [--executor NAME] [--workers N] [--folder FOLDER] [--size PIXELS] [--times N]
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import sys
import sysconfig
import tempfile
import time
import zlib
from pathlib import Path
from typing import NamedTuple

from executors import WrongResult, add_arguments, open_pool, positive
from PIL import Image, ImageOps

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
SAMPLE = 20  # pictures that are done again in this process
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for bad files


class Task(NamedTuple):
    """One picture: where it is, and where its copy goes."""

    source: str
    target: str


def render(source: str, size: int) -> Image.Image:
    """Return a picture as a square of `size` pixels a side: its longer side cropped, white where it is transparent.

    Raises:
        One of `UNREADABLE`: If it is not a picture that Pillow reads.
    """
    with Image.open(source) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    return ImageOps.fit(opaque, (size, size))


def convert(task: Task, size: int, kind: str) -> str | None:
    """Write one picture anew.

    Returns:
        None, or why the picture cannot be read: one bad file does not end the job.
    """
    try:
        picture = render(task.source, size)
    except UNREADABLE as error:
        return f"{type(error).__name__}: {error}"
    picture.save(task.target, kind)
    return None


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder and in those below it."""
    return sorted(path for path in folder.rglob("*.*") if path.suffix.lower() in SUFFIXES)


def shipped_pictures() -> list[Path]:
    """Return the pictures that come with this Python, such as IDLE's icons, and with the packages installed in it."""
    files = [file for package in importlib.metadata.distributions() for file in package.files or []]
    paths = {Path(str(file.locate())) for file in files if file.suffix.lower() in SUFFIXES}
    of_python = pictures_in(Path(sysconfig.get_path("stdlib")))
    paths.update(path for path in of_python if "site-packages" not in path.parts)
    return sorted(path for path in paths if path.is_file())


def draw_pictures(folder: Path, count: int = 8) -> list[Path]:
    """Draw parts of the Mandelbrot set, each 640 by 480 pixels and in another colour, and return their files."""
    paths = [folder / f"mandelbrot-{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        zoom = 0.8**i
        extent = (-0.75 - 1.6 * zoom, -1.2 * zoom, -0.75 + 1.6 * zoom, 1.2 * zoom)
        grey = Image.effect_mandelbrot((640, 480), extent, 60)
        ImageOps.colorize(grey, "black", f"hsl({360 * i // count}, 90%, 60%)").save(path)
    return paths


def checksum(path: str, size: int, kind: str) -> int:
    """Return the CRC-32 of a picture's pixels.

    Raises:
        WrongResult: If the file does not open, or has not the size or the format asked for.
    """
    try:
        with Image.open(path) as picture:
            pixels = picture.convert("RGB").tobytes()
            found = (picture.size, picture.format)
    except UNREADABLE as error:
        raise WrongResult(f"{path} does not open: {error}") from error
    if found != ((size, size), kind):
        raise WrongResult(f"{path} is {found}, and should be {((size, size), kind)}.")
    return zlib.crc32(pixels)


def check(tasks: list[Task], errors: list[str | None], size: int, kind: str) -> None:
    """Check every output, and the pixels of those of a sample of the pictures.

    Args:
        tasks: All that was to be done.
        errors: What `convert` returned for each.
        size: Pixels a side.
        kind: What Pillow calls the format.

    Raises:
        WrongResult: With what is wrong.
    """
    if len(errors) != len(tasks):
        raise WrongResult(f"There are {len(errors)} results of {len(tasks)} pictures.")
    sources = sorted({task.source for task in tasks})
    expected: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for i, source in enumerate(sources[:: max(1, len(sources) // SAMPLE)]):
            copy = str(Path(scratch, str(i)))
            if convert(Task(source, copy), size, kind) is None:
                expected[source] = checksum(copy, size, kind)
    for task, error in zip(tasks, errors, strict=True):
        if error is None:
            found = checksum(task.target, size, kind)
            if found != expected.get(task.source, found):
                raise WrongResult(f"{task.target} has other pixels than {task.source} has here.")
        elif task.source in expected:
            raise WrongResult(f"{task.source} can be read here, but a worker says: {error}")


def main() -> None:
    """Convert, check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--folder", type=Path, help="the pictures to take; default: those of the installed packages")
    parser.add_argument("--out", type=Path, help="the folder to write to; default: one that is removed at the end")
    parser.add_argument("--size", type=positive, default=512, help="pixels a side; default: %(default)s")
    parser.add_argument("--format", default="JPEG", choices=["JPEG", "PNG", "WEBP"])
    parser.add_argument("--times", type=positive, help="take each picture so often; default: 1 with --folder, else 40")
    arguments = parser.parse_args()
    size, kind = arguments.size, arguments.format
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.folder:
            what, paths = f"pictures of {arguments.folder}", pictures_in(arguments.folder)
        else:
            what, paths = "pictures of the installed packages", shipped_pictures()
            if not paths:
                what, paths = "drawn pictures (the installed packages bring none)", draw_pictures(Path(scratch))
        if not paths:
            sys.exit(f"There are no pictures in {arguments.folder}.")
        out: Path = arguments.out or Path(scratch, "out")
        out.mkdir(parents=True, exist_ok=True)
        paths *= arguments.times or (1 if arguments.folder else 40)
        tasks = [Task(str(path), str(out / f"{i:06}.{kind.lower()}")) for i, path in enumerate(paths)]

        start = time.perf_counter()
        with open_pool(arguments.executor, arguments.workers, arguments.start_method) as pool:
            errors = list(pool.map(functools.partial(convert, size=size, kind=kind), tasks))
        seconds = time.perf_counter() - start

        try:
            check(tasks, errors, size, kind)
        except WrongResult as wrong:
            sys.exit(f"images, {arguments.executor}: {wrong}")
        for path, error in sorted({task.source: error for task, error in zip(tasks, errors, strict=True)}.items()):
            if error:
                print(f"{path} cannot be read: {error}", file=sys.stderr)
        done = errors.count(None)
    print(f"images, {arguments.executor}: {done:,} of {len(tasks):,} {what} as {kind}, {size} by {size} pixels")
    print(f"{seconds:.3f} s, {len(tasks) / seconds:,.0f} pictures a second, output checked")


if __name__ == "__main__":
    main()
