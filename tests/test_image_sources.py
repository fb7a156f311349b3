"""Open files, buffers and torch tensors: the same pixels as the path, the bytes or the array."""

import io
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import cjkclip
from cjkclip.errors import ImageError
from cjkclip.image import open_picture

PANDA = cjkclip.moji.pictures("noto")["1f43c"]


def same(picture: object) -> bool:
    return np.array_equal(np.asarray(open_picture(picture)), np.asarray(open_picture(PANDA)))  # pyright: ignore[reportArgumentType]


def test_open_files_and_buffers(tmp_path: Path) -> None:
    path = tmp_path / "panda.webp"
    path.write_bytes(PANDA)
    with path.open("rb") as file, tempfile.SpooledTemporaryFile() as spooled:  # as web frameworks hold uploads
        spooled.write(PANDA)
        for picture in (io.BytesIO(PANDA), file, spooled, bytearray(PANDA), memoryview(PANDA)):
            assert same(picture)
            assert same(picture)  # from the start again


def test_a_call_takes_one_or_several_of_them() -> None:
    clip = cjkclip.load("moji", engine="numpy")
    expected = clip.encode_image(PANDA)
    file, tensor = io.BytesIO(PANDA), torch.tensor(np.array(open_picture(PANDA)))
    for picture in (file, bytearray(PANDA), tensor, tensor.permute(2, 0, 1), tensor.permute(2, 0, 1) / 255):
        assert np.array_equal(clip.encode_image(picture), expected)
    assert np.allclose(clip.encode_image([file, file, tensor]), expected, rtol=0, atol=1e-6)
    assert clip.classify(file, ["panda", "fire engine"])[0][0].label == "panda"


def test_tensors_of_grey_and_transparent_images() -> None:
    grey = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    assert np.array_equal(np.asarray(open_picture(grey))[..., 0], grey[0].numpy())
    clear = torch.zeros(4, 8, 8, dtype=torch.uint8)
    assert (np.asarray(open_picture(clear)) == 255).all()


def test_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no image")
    with path.open() as file, pytest.raises(ImageError, match="binary mode"):
        open_picture(file)
    with pytest.raises(ImageError, match="not in an image format"):
        open_picture(io.BytesIO(b"no image"))
    with pytest.raises(ImageError, match="zero bytes"):
        open_picture(io.BytesIO())
    with pytest.raises(ImageError):
        open_picture(torch.zeros(3, 8, 8) + 7)
    assert isinstance(open_picture(PIL.Image.new("RGB", (8, 8))), PIL.Image.Image)
