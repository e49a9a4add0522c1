"""Pixels: decoding, preprocessing against Pillow, the store, and augmentation against plain loops."""

import io
from collections import Counter
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from lapel.catalog import Catalog
from lapel.config.augment import AugmentConfig
from lapel.config.data import DataConfig, Invert, Resize
from lapel.errors import LapelError
from lapel.images.augmentation import PHOTO_DRAWS, PHOTO_STREAM, Augmentation
from lapel.images.draws import key_of, uniform
from lapel.images.preprocess import Preprocess
from lapel.images.store import STORE_CHUNK, HeldStore, open_store
from lapel.photos.decoding import decode, open_photo
from lapel.photos.given import as_arrays

BILINEAR = Image.Resampling.BILINEAR


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def drawing(height: int, width: int) -> np.ndarray:
    """uint8 `[height, width, 3]`: smooth colours with an edge, as photos have."""
    ys, xs = np.mgrid[:height, :width] / max(height, width)
    picture = np.stack([xs, ys, (xs + ys) / 2], axis=2)
    picture[height // 4 : height // 2, width // 4 :] = [0.9, 0.1, 0.4]
    return (picture * 255).astype(np.uint8)


def batch_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(noise(*shape, seed=seed))


def preprocess_of(
    size: int = 8, channels: int = 1, resize: Resize = Resize.squash, invert: Invert = Invert.never
) -> Preprocess:
    return Preprocess(size, size, channels, resize, [0.5] * channels, [0.25] * channels, invert)


def pillow_resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 `[channels, height, width]` of `[channels, …]`, by Pillow."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    resized = np.asarray(image.resize((width, height), BILINEAR))
    return resized[None] if len(pixels) == 1 else resized.transpose(2, 0, 1)


def assert_resized(found: np.ndarray, expected: np.ndarray) -> None:
    """Pillow's pixels to a level: its weights have 22 bits, torch's 16, so that some sums round to another one."""
    apart = np.abs(found.astype(int) - expected)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.3


def decoded(image: Image.Image, path: Path, channels: int, **options: Any) -> np.ndarray:
    """Pixels of an image once written and read."""
    image.save(path, **options)
    pixels = decode(path, channels)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape[0] == channels
    return pixels


# --------------------------------------------------------------------------------------------------------------- decode


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "CMYK", "LA", "RGBA"])
def test_every_mode_is_decoded_as_pillow_converts_it(mode: str, channels: int, tmp_path: Path):
    image = Image.fromarray(noise(5, 7, 3)).convert(mode)
    suffix = "tif" if mode == "CMYK" else "png"
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    pixels = decoded(image, tmp_path / f"photo.{suffix}", channels)
    np.testing.assert_array_equal(pixels, expected[None] if channels == 1 else expected.transpose(2, 0, 1))


def test_grey_from_colour_is_luma():
    red_green_blue = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert decode(red_green_blue, 1).tolist() == [[[76, 150, 29]]]


def test_colour_from_grey_has_three_equal_channels():
    pixels = decode(noise(4, 6), 3)
    np.testing.assert_array_equal(pixels, np.repeat(noise(4, 6)[None], 3, axis=0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(orientation: int, tmp_path: Path):
    upright = noise(4, 6)
    # Rows of the file, from which a viewer makes the upright picture (TIFF 6.0, tag 274).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    pixels = decoded(image, tmp_path / "photo.png", 1, exif=exif.tobytes())
    np.testing.assert_array_equal(pixels[0], upright)


def test_a_jpeg_is_turned_upright(tmp_path: Path):
    upright = np.zeros((40, 60), np.uint8)
    upright[:10] = 200
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(np.ascontiguousarray(upright.T[::-1]))
    pixels = decoded(image, tmp_path / "photo.jpg", 1, exif=exif.tobytes(), quality=95)
    assert np.abs(pixels[0].astype(int) - upright).max() < 40
    assert decoded(image, tmp_path / "plain.jpg", 1, quality=95).shape == (1, 60, 40)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(("progressive", "quality"), [(False, 75), (True, 75), (False, 100)])
def test_jpegs_have_the_pixels_that_pillow_finds(
    mode: str, channels: int, subsampling: int, progressive: bool, quality: int
):
    image = Image.fromarray(drawing(33, 45)).convert(mode)
    file = io.BytesIO()
    image.save(file, format="JPEG", subsampling=subsampling, progressive=progressive, quality=quality)
    with Image.open(file) as reread:
        expected = np.asarray(reread.convert("RGB").convert("L") if channels == 1 else reread.convert("RGB"))
    np.testing.assert_array_equal(open_photo(file.getvalue(), channels), expected)


def test_a_truncated_jpeg_is_no_photo():
    file = io.BytesIO()
    Image.fromarray(drawing(33, 45)).save(file, format="JPEG")
    with pytest.raises(LapelError, match="truncated"):
        open_photo(file.getvalue()[:-100], 3)


def test_transparent_pixels_are_white(tmp_path: Path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, :3] = [200, 100, 0]
    pixels[0, :, 3] = [0, 255, 128]
    colour = decoded(Image.fromarray(pixels), tmp_path / "photo.png", 3)
    assert colour[:, 0, 0].tolist() == [255, 255, 255]
    assert colour[:, 0, 1].tolist() == [200, 100, 0]
    assert np.abs(colour[:, 0, 2].astype(int) - [227, 177, 127]).max() <= 1
    assert decode(tmp_path / "photo.png", 1)[0, 0, 0] == 255


def test_transparent_grey_is_white(tmp_path: Path):
    pixels = np.array([[[10, 0], [10, 255]]], np.uint8)
    assert decoded(Image.fromarray(pixels, "LA"), tmp_path / "photo.png", 1).tolist() == [[[255, 10]]]


def test_a_transparent_palette_entry_is_white(tmp_path: Path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image = image.convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    opaque = decoded(image, tmp_path / "opaque.png", 3)
    assert opaque[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    pixels = decoded(image, tmp_path / "photo.png", 3, transparency=1)
    assert pixels[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_high_byte(suffix: str, tmp_path: Path):
    wide = np.array([[0, 255, 256, 0x1234, 0x8000, 0xFFFF]], np.uint16)
    for channels in (1, 3):
        pixels = decoded(Image.fromarray(wide), tmp_path / f"photo.{suffix}", channels)
        assert pixels[0].tolist() == [[0, 0, 1, 0x12, 0x80, 0xFF]]


def test_files_images_and_arrays_give_the_same(tmp_path: Path):
    pixels = noise(5, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    sources = (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(pixels), pixels)
    for source in sources:
        np.testing.assert_array_equal(decode(source, 3), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_decoded_pixels_can_be_written_to(mode: str, channels: int):
    # torch.from_numpy warns of an array that cannot.
    assert decode(Image.fromarray(noise(4, 4, 3)).convert(mode), channels).flags.writeable


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(LapelError, match=r"nowhere\.png: no such file"):
        decode(tmp_path / "nowhere.png", 1)


def test_a_folder_is_named(tmp_path: Path):
    with pytest.raises(LapelError, match=rf"{tmp_path.name}: not a readable image"):
        decode(tmp_path, 1)


@pytest.mark.parametrize("content", [b"not an image", b"", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_file_that_is_no_image_is_named(content: bytes, tmp_path: Path):
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(LapelError, match=r"notes\.png: not a readable image") as caught:
        decode(tmp_path / "notes.png", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp"])
def test_a_truncated_file_is_named(suffix: str, tmp_path: Path):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LapelError, match=rf"photo\.{suffix}: not a readable image"):
        decode(path, 3)


def test_an_image_that_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "bomb.png"
    Image.fromarray(noise(40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(LapelError, match=r"bomb\.png: not a readable image \(1,600 pixels; at most 89,000,000 pixels"):
        decode(path, 1)


@pytest.mark.parametrize("shape", [(4,), (1, 1, 4, 4), (0, 4), (4, 0, 3)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(LapelError, match=r"image array is uint8 \["):
        decode(np.zeros(shape, np.uint8), 1)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint16, bool])
def test_arrays_of_another_type_are_refused(dtype: type):
    with pytest.raises(LapelError, match=rf"image array is {np.dtype(dtype)} \[4, 4\]"):
        decode(np.zeros((4, 4), dtype), 1)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_arrays_of_odd_channels_are_refused(channels: int):
    with pytest.raises(LapelError, match="image array"):
        decode(np.zeros((4, 4, channels), np.uint8), 3)


# ----------------------------------------------------------------------------------------------------------- preprocess


def test_luma_is_pillows():
    pixels = noise(6, 60, 60, 3)
    expected = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in pixels])
    found = preprocess_of(60).convert(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal(found[:, 0].numpy(), expected)


@pytest.mark.parametrize("level", [0, 1, 77, 128, 254, 255])
def test_luma_of_grey_is_grey(level: int):
    assert preprocess_of(2).convert(torch.full((1, 3, 2, 2), level, dtype=torch.uint8)).unique().tolist() == [level]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(37, 53, 28), (120, 31, 28), (20, 11, 28), (28, 56, 28), (100, 75, 48), (9, 200, 16)]
)
def test_resizing_is_pillows_but_for_rounding(channels: int, height: int, width: int, size: int):
    images = batch_of(3, channels, height, width)
    found = preprocess_of(size, channels).fit(images).numpy()
    assert_resized(found, np.stack([pillow_resized(each, size, size) for each in images.numpy()]))


def test_resizing_of_a_smooth_picture_is_pillows_to_the_bit():
    y, x = np.mgrid[:200, :150]
    picture = ((np.sin(y / 30) + np.cos(x / 20) + 2) / 4 * 255).astype(np.uint8)[None]
    found = preprocess_of(28).fit(torch.from_numpy(picture)[None]).numpy()
    np.testing.assert_array_equal(found[0], pillow_resized(picture, 28, 28))


def test_an_image_is_resized_alike_alone_and_in_a_batch():
    images = batch_of(5, 3, 37, 53)
    preprocess = preprocess_of(16, 3)
    assert torch.equal(torch.cat([preprocess.fit(image[None]) for image in images]), preprocess.fit(images))


def test_resizing_does_not_mind_how_the_pixels_lie_in_memory():
    images = batch_of(2, 37, 30, 3).permute(0, 3, 1, 2)
    preprocess = preprocess_of(16, 3)
    assert torch.equal(preprocess.fit(images), preprocess.fit(images.contiguous()))


def test_an_image_of_the_right_size_is_left_alone():
    images = batch_of(2, 3, 8, 8)
    assert torch.equal(preprocess_of(8, 3).fit(images), images)


@pytest.mark.parametrize("resize", list(Resize))
def test_grey_becomes_three_channels(resize: Resize):
    images = batch_of(2, 1, 12, 9)
    found = preprocess_of(8, 3, resize).fit(images)
    assert found.shape == (2, 3, 8, 8)
    assert torch.equal(found, preprocess_of(8, 1, resize).fit(images).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "fitted"), [(40, 20, (16, 8)), (10, 30, (5, 16)), (6, 4, (16, 11)), (200, 2, (16, 1))]
)
def test_padding_keeps_the_shape_and_centres_it(channels: int, height: int, width: int, fitted: tuple[int, int]):
    images = batch_of(2, channels, height, width)
    found = preprocess_of(16, channels, Resize.pad).fit(images).numpy()
    top, left = (16 - fitted[0]) // 2, (16 - fitted[1]) // 2
    for image, each in zip(images.numpy(), found, strict=True):
        edges = [image[:, 0, :], image[:, -1, :], image[:, :, 0], image[:, :, -1]]
        colour = np.concatenate(edges, axis=1).mean(1, keepdims=True)[..., None]
        expected = np.broadcast_to(np.round(colour), (channels, 16, 16)).astype(np.uint8).copy()
        expected[:, top : top + fitted[0], left : left + fitted[1]] = pillow_resized(image, *fitted)
        inside = np.zeros((16, 16), bool)
        inside[top : top + fitted[0], left : left + fitted[1]] = True
        assert_resized(each[:, inside], expected[:, inside])
        np.testing.assert_array_equal(each[:, ~inside], expected[:, ~inside])


def test_a_square_is_not_padded():
    images = batch_of(2, 3, 21, 21)
    assert torch.equal(preprocess_of(8, 3, Resize.pad).fit(images), preprocess_of(8, 3).fit(images))


def test_padding_has_the_colour_of_the_border():
    images = torch.zeros(1, 3, 10, 20, dtype=torch.uint8)
    images[0, :, 2:8, 5:15] = 9
    images[0, 0, [0, -1]] = images[0, 0, :, [0]] = images[0, 0, :, [-1]] = 240
    found = preprocess_of(20, 3, Resize.pad).fit(images)
    assert found[0, :, 0, 0].tolist() == found[0, :, -1, -1].tolist() == [240, 0, 0]
    assert torch.equal(found[:, :, 5:15], images)


@pytest.mark.parametrize("invert", list(Invert))
def test_photos_are_inverted_where_asked_for(invert: Invert):
    dark, white = batch_of(1, 1, 8, 8) // 2, torch.full((1, 1, 8, 8), 230, dtype=torch.uint8)
    white[:, :, 2:6, 2:6] = 3
    images = torch.cat([dark, white, 255 - dark // 4])
    expected = {
        Invert.never: images,
        Invert.always: 255 - images,
        Invert.white_background: torch.cat([dark, 255 - white, dark // 4]),
    }[invert]
    assert torch.equal(preprocess_of(8, 1, invert=invert).fit(images), expected)


@pytest.mark.parametrize(("level", "inverted"), [(199, False), (200, True)])
def test_white_begins_at_two_hundred(level: int, inverted: bool):
    images = torch.full((1, 3, 8, 8), level, dtype=torch.uint8)
    found = preprocess_of(8, 3, invert=Invert.white_background).fit(images)
    assert found.unique().tolist() == [255 - level if inverted else level]


@pytest.mark.parametrize("channels", [1, 3])
def test_forward_standardises(channels: int):
    images = batch_of(2, channels, 8, 8)
    found = preprocess_of(8, channels)(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (images / 255 - 0.5) / 0.25)


def test_each_channel_has_its_own_mean_and_deviation():
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    found = Preprocess(8, 8, 3, Resize.squash, mean, std)(torch.full((1, 3, 8, 8), 51, dtype=torch.uint8))
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([0.2, 0.0, -0.05]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("invert", list(Invert))
@pytest.mark.parametrize("channels", [1, 3])
def test_scripted_equals_eager(resize: Resize, invert: Invert, channels: int):
    preprocess = preprocess_of(12, channels, resize, invert)
    scripted = torch.jit.script(preprocess)
    for shape in ((2, 3, 20, 9), (1, 1, 12, 12), (2, 3, 12, 12), (1, 1, 5, 30), (2, 3, 7, 7)):
        images = torch.cat([batch_of(*shape), 255 - batch_of(*shape, seed=1) // 8])
        assert torch.equal(scripted(images), preprocess(images))


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.int32)])
def test_another_type_is_refused(images: Tensor):
    with pytest.raises(ValueError, match="must be uint8"):
        preprocess_of()(images)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 2, 8, 8), (1, 4, 8, 8), (1, 8, 8, 3), (1, 1, 1, 8, 8)])
def test_another_shape_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"must be \[batch, 1 or 3, height, width\]"):
        preprocess_of()(torch.zeros(shape, dtype=torch.uint8))


# ---------------------------------------------------------------------------------------------------------------- store


def catalog_of(pixels: np.ndarray | None, numbers: list[int]) -> Catalog:
    table = pd.DataFrame({"image": numbers, "item": 0, "category": 0, "split": "train", "role": "both"})
    return Catalog("tiny", table, ["one"], ["one"], pixels)


def held(catalog: Catalog, config: DataConfig) -> HeldStore:
    store = open_store(catalog, config)
    assert isinstance(store, HeldStore)
    return store


@pytest.mark.parametrize("shape", [(6, 10, 10), (6, 10, 10, 3), (6, 13, 9), (6, 13, 9, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_store_holds_each_row_as_pillow_would_make_it(shape: tuple[int, ...], channels: int):
    source, numbers = noise(*shape), [4, 0, 5, 5, 2]
    store = held(catalog_of(source, numbers), DataConfig(size=10, channels=channels))
    assert len(store) == 5
    assert store.device.type == "cpu"
    assert store.pixels.dtype == torch.uint8
    assert store.pixels.shape == (5, channels, 10, 10)
    for number, found in zip(numbers, store.pixels.numpy(), strict=True):
        image = Image.fromarray(source[number]).convert("L" if channels == 1 else "RGB").resize((10, 10), BILINEAR)
        expected = np.asarray(image)
        assert_resized(found, expected[None] if channels == 1 else expected.transpose(2, 0, 1))


def test_a_store_pads_where_asked_for():
    source = noise(2, 20, 10)
    store = held(catalog_of(source, [1, 0]), DataConfig(size=8, resize=Resize.pad))
    expected = preprocess_of(8, 1, Resize.pad).fit(torch.from_numpy(source[[1, 0]])[:, None])
    assert torch.equal(store.pixels, expected)


def test_a_store_of_more_than_one_chunk_is_whole():
    source = noise(50, 9, 8)
    numbers = np.random.default_rng(0).integers(0, 50, STORE_CHUNK + 30).tolist()
    store = held(catalog_of(source, numbers), DataConfig(size=8))
    once = preprocess_of(8).fit(torch.from_numpy(source)[:, None])
    assert torch.equal(store.pixels, once[numbers])


def test_gather_takes_rows_in_the_order_asked_for():
    source = noise(6, 8, 8)
    store = held(catalog_of(source, list(range(6))), DataConfig(size=8))
    np.testing.assert_array_equal(store.gather(np.array([3, 0, 3]))[:, 0].numpy(), source[[3, 0, 3]])


def test_what_is_gathered_is_a_copy():
    store = held(catalog_of(noise(2, 8, 8), [0, 1]), DataConfig(size=8))
    before = store.pixels.clone()
    store.gather(np.array([0])).zero_()
    assert torch.equal(store.pixels, before)


def test_a_catalogue_without_pixels_is_refused():
    with pytest.raises(LapelError, match="catalogue tiny: holds no pixels"):
        open_store(catalog_of(None, [0]), DataConfig())


# --------------------------------------------------------------------------------------------------------- augmentation

EVERY_CHANGE = AugmentConfig(
    flip=0.5, shift=2, erase=4, crop=0.5, stretch=0.3, rotate=20,
    brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1,
)  # fmt: skip


def augmented(config: AugmentConfig, images: Tensor, seed: int = 0, step: int = 0, epoch: int = 0) -> Tensor:
    return Augmentation(config, seed)(images, torch.arange(len(images)), step, epoch)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Pixel by pixel; what enters is 0."""
    result = np.zeros_like(image)
    height, width = image.shape[1:]
    for y, x in product(range(height), range(width)):
        if 0 <= y - down < height and 0 <= x - right < width:
            result[:, y, x] = image[:, y - down, x - right]
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_keeps_shape_type_and_the_images_given(channels: int):
    images = batch_of(20, channels, 12, 12)
    before = images.clone()
    found = augmented(EVERY_CHANGE, images)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert torch.equal(images, before)
    assert not torch.equal(found, images)


def test_augmentation_is_a_function_of_seed_and_step():
    images = batch_of(10, 3, 12, 12)
    found = augmented(EVERY_CHANGE, images, seed=1, step=5)
    assert torch.equal(augmented(EVERY_CHANGE, images, seed=1, step=5), found)
    assert not torch.equal(augmented(EVERY_CHANGE, images, seed=2, step=5), found)
    assert not torch.equal(augmented(EVERY_CHANGE, images, seed=1, step=6), found)


@pytest.mark.parametrize("cuts", [[0, 5, 10], [0, 3, 6, 10]])
def test_the_parts_of_a_batch_are_changed_as_the_whole(cuts: list[int]):
    images = batch_of(10, 3, 12, 12)
    augmentation = Augmentation(EVERY_CHANGE, 1)
    rows = torch.arange(10) + 70
    whole = augmentation(images, rows, 7, 1)
    parts = [augmentation(images[start:stop], rows[start:stop], 7, 1, start) for start, stop in pairwise(cuts)]
    assert torch.equal(torch.cat(parts), whole)


def test_no_change_asked_for_is_none_made():
    images = batch_of(5, 1, 12, 12)
    assert torch.equal(augmented(AugmentConfig(), images), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_one_mirrors_every_image(channels: int):
    images = batch_of(9, channels, 7, 12)
    np.testing.assert_array_equal(augmented(AugmentConfig(flip=1.0), images).numpy(), images.numpy()[..., ::-1])


def test_flip_mirrors_its_share_of_the_images():
    images = batch_of(2000, 1, 2, 3)
    found = augmented(AugmentConfig(flip=0.3), images)
    mirrored = (found == images.flip(3)).flatten(1).all(1)
    assert (mirrored | (found == images).flatten(1).all(1)).all()
    assert 0.25 < mirrored.float().mean() < 0.35


def test_alternate_shows_each_image_from_one_side_and_then_from_the_other():
    images, rows = batch_of(500, 1, 2, 3), torch.arange(500)
    augmentation = Augmentation(AugmentConfig(flip=0.5, alternate=True), 3)
    first, second, third = (augmentation(images, rows, 10 + epoch, epoch) for epoch in range(3))
    mirrored = (first == images.flip(3)).flatten(1).all(1)
    assert 0.4 < mirrored.float().mean() < 0.6
    assert torch.equal(second, first.flip(3))
    assert torch.equal(third, first)
    # A function of the image and not of its place in the batch.
    order = torch.randperm(500)
    assert torch.equal(augmentation(images[order], rows[order], 99, 0), first[order])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_shift_moves_pixels_and_lets_in_black(channels: int, flip: float):
    images = batch_of(25, channels, 6, 8) | 1
    found = augmented(AugmentConfig(flip=flip, shift=2), images).numpy()
    for image, each in zip(images.numpy(), found, strict=True):
        sources = [image] if flip == 0 else [image, image[..., ::-1]]
        candidates = [shifted(source, *move) for source in sources for move in product(range(-2, 3), repeat=2)]
        assert sum(np.array_equal(each, candidate) for candidate in candidates) == 1


def test_every_shift_is_equally_likely():
    images = torch.zeros(5000, 1, 5, 5, dtype=torch.uint8)
    images[:, 0, 2, 2] = 200
    found = augmented(AugmentConfig(shift=1), images)
    moves = Counter(map(tuple, (found[:, 0] == 200).nonzero()[:, 1:].tolist()))
    assert set(moves) == set(product((1, 2, 3), repeat=2))
    assert min(moves.values()) > 0.85 * 5000 / 9
    assert max(moves.values()) < 1.15 * 5000 / 9


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 3, 8])
def test_erase_blackens_one_square(channels: int, side: int):
    images = batch_of(200, channels, 8, 8) | 1
    found = augmented(AugmentConfig(erase=side), images)
    corners = set()
    for image, each in zip(images, found, strict=True):
        ys, xs = (each[0] == 0).nonzero().T
        top, left = int(ys.min()), int(xs.min())
        expected = image.clone()
        expected[:, top : top + side, left : left + side] = 0
        assert torch.equal(each, expected)
        assert int(ys.max()) - top == int(xs.max()) - left == side - 1
        corners.add((top, left))
    everywhere = set(range(8 - side + 1))
    assert {top for top, _ in corners} == {left for _, left in corners} == everywhere


def test_each_image_has_its_own_draw():
    images = batch_of(1, 1, 12, 12).expand(30, -1, -1, -1)
    found = augmented(EVERY_CHANGE, images)
    assert len({each.numpy().tobytes() for each in found}) > 25


# ------------------------------------------------------------------------------------------------------------- as batch


def photo_draws(seed: int, step: int, total: int) -> np.ndarray:
    """The draws of crops and colours, float32 `[total, 9]`."""
    return uniform(key_of(seed, PHOTO_STREAM), step, torch.arange(total), PHOTO_DRAWS).numpy()


def smooth(count: int, height: int, width: int) -> Tensor:
    """Colour pictures without sharp edges, whose mirror images and turns differ."""
    ys, xs = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    waves = [np.sin(2 + phase + 3 * ys + 2 * xs * phase) for phase in (0.3, 1.1, 2.0)]
    return torch.from_numpy((127 + 100 * np.stack(waves)).astype(np.uint8))[None].repeat(count, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "config", "column"),
    [
        ("brightness", AugmentConfig(brightness=0.6), 5),
        ("contrast", AugmentConfig(contrast=0.6), 6),
        ("saturation", AugmentConfig(saturation=0.6), 7),
    ],
)
def test_colours_change_as_torchvisions_do(name: str, config: AugmentConfig, column: int):
    images = smooth(6, 10, 14)
    found = augmented(config, images, seed=4, step=9)
    factors = 1 + (2 * photo_draws(4, 9, 6)[:, column] - 1) * 0.6
    change = getattr(vision, f"adjust_{name}")
    for image, result, factor in zip(images, found, factors, strict=True):
        # Theirs works on 0 to 1, and rounds the greys that it compares with.
        expected = change(image.float() / 255, float(factor)) * 255
        assert (result.float() - expected.clamp(0, 255)).abs().max() <= 1.5


def test_hue_leaves_greys_and_brightness_as_they_are():
    grey = torch.arange(0, 250, 10, dtype=torch.uint8).view(1, 1, 5, 5).repeat(4, 3, 1, 1)
    assert (augmented(AugmentConfig(hue=0.5), grey).int() - grey.int()).abs().max() <= 1
    images = smooth(8, 10, 10) // 4 + 90  # pale colours: no level is cut off
    found = augmented(AugmentConfig(hue=0.5), images)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert ((found * luma).sum(1) - (images * luma).sum(1)).abs().max() <= 1.5
    assert (found.int() - images.int()).abs().max() > 10


def test_a_hue_turned_by_a_third_exchanges_the_colours_about():
    red = torch.tensor([140, 100, 100], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    turned = [augmented(AugmentConfig(hue=0.5), red, seed=seed)[0, :, 0, 0].int().argmax().item() for seed in range(40)]
    assert set(turned) == {0, 1, 2}


def test_a_rotation_is_pillows():
    images = smooth(1, 40, 30)
    for step in range(5):
        found = augmented(AugmentConfig(rotate=25), images, seed=2, step=step)
        angle = float(2 * photo_draws(2, step, 1)[0, 4] - 1) * 25
        picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
        expected = np.asarray(picture.rotate(angle, BILINEAR))
        inside = (slice(14, 26), slice(10, 20))  # away from what enters
        apart = np.abs(found[0].permute(1, 2, 0).numpy()[inside].astype(int) - expected[inside])
        assert apart.max() <= 4, angle


def test_a_crop_is_a_part_of_the_image_resized():
    images = smooth(12, 40, 30)
    found = augmented(AugmentConfig(crop=0.3, stretch=0.2), images, seed=3)
    draws = photo_draws(3, 0, 12)
    for image, result, draw in zip(images, found, draws, strict=True):
        area = 0.3 + 0.7 * draw[0]
        ratio = 1.2 ** (2 * draw[1] - 1)
        across, down = min((area * ratio) ** 0.5, 1) * 30, min((area / ratio) ** 0.5, 1) * 40
        left, top = draw[2] * (30 - across), draw[3] * (40 - down)
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = np.asarray(picture.resize((30, 40), BILINEAR, box=(left, top, left + across, top + down)))
        assert np.abs(result.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 3


def test_changes_of_photos_leave_the_draws_of_the_others_as_they_are():
    images = smooth(6, 12, 12)
    assert torch.equal(
        augmented(AugmentConfig(flip=0.5, shift=2, erase=3), images),
        augmented(AugmentConfig(flip=0.5, shift=2, erase=3, brightness=1e-6), images),
    )


def test_anything_that_shows_an_image_becomes_an_array(tmp_path: Path):
    pixels = noise(5, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    for images in (str(tmp_path / "photo.png"), tmp_path / "photo.png", Image.fromarray(pixels), pixels, [pixels]):
        (found,) = as_arrays(images, 3)
        np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1))
    assert [each.shape for each in as_arrays([pixels, noise(3, 3)], 1)] == [(1, 5, 4), (1, 3, 3)]


@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
def test_a_whole_batch_is_taken_apart_as_it_is(kind: type):
    images = batch_of(3, 3, 5, 4)
    found = as_arrays(images if kind is torch.Tensor else images.numpy(), 1)
    assert len(found) == 3
    np.testing.assert_array_equal(np.stack(found), images)
