import sys

import numpy
import pytest
from PIL import Image

from chainer_abn.datasets.frames import frames
from chainer_abn.errors import InputError
from chainer_abn.explain.animation import GifWriter
from chainer_abn.explain.overlay import overlay


def write(path, pictures, times):
    with GifWriter(path, pictures[0].shape[:2]) as gif:
        for picture, milliseconds in zip(pictures, times, strict=True):
            gif.add(picture, milliseconds)
    return path


def seen(path):
    """Pictures and durations as Pillow reads them, and how often it starts again (0: for ever)."""
    with Image.open(path) as image:
        pictures, times = [], []
        for i in range(image.n_frames):
            image.seek(i)
            pictures.append(numpy.asarray(image.convert('RGB')))
            times.append(image.info['duration'])
        return numpy.array(pictures), times, image.info['loop']


def overlays(n, size=(60, 80)):
    """A hill of attention that moves over a coarse photograph."""
    y, x = numpy.mgrid[:size[0], :size[1]]
    photo = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (6, 8, 3), 'u1'))
    photo = numpy.asarray(photo.resize(size[::-1], Image.Resampling.BICUBIC))
    return [overlay(photo, numpy.exp(-((x - 80 * i / n) ** 2 + (y - 30) ** 2) / 400)) for i in range(n)]


def test_pictures_of_few_colours_that_differ_much_come_back_as_they_were(tmp_path):
    colours = numpy.array([(255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0), (128, 64, 32)], 'u1')
    pictures = colours[numpy.random.default_rng(0).integers(0, 5, (4, 5, 7))]
    pictures[2] = 0             # one colour
    found, times, loop = seen(write(tmp_path / 'a.gif', pictures, [40, 50, 60, 70]))
    numpy.testing.assert_array_equal(found, pictures)
    assert times == [40, 50, 60, 70]
    assert loop == 0


def test_overlays_look_as_they_did(tmp_path):
    pictures = numpy.array(overlays(4))
    found, *_ = seen(write(tmp_path / 'a.gif', pictures, [100] * 4))
    error = found.astype(int) - pictures
    assert numpy.abs(error).mean() < 8
    # from a distance: blocks of 5 x 5 pixels
    assert numpy.abs(error.reshape(4, 12, 5, 16, 5, 3).mean(axis=(2, 4))).mean() < 1.5
    assert all(len(numpy.unique(picture.reshape(-1, 3), axis=0)) > 128 for picture in found)


def test_frames_reads_what_was_written(tmp_path):
    path = write(tmp_path / 'a.gif', overlays(3), [40, 250, 40])
    images, times = zip(*frames(path), strict=True)
    numpy.testing.assert_array_equal(images, seen(path)[0])
    assert times == (40, 250, 40)


def test_the_total_time_is_kept(tmp_path):
    times = [1000 / 30] * 31 + [1001 / 24] * 17 + [44.9, 45.1]
    pictures = numpy.zeros((len(times), 2, 2, 3), 'u1')
    found = seen(write(tmp_path / 'a.gif', pictures, times))[1]
    assert numpy.abs(numpy.cumsum(found) - numpy.cumsum(times)).max() <= 5
    assert numpy.abs(numpy.subtract(found, times)).max() <= 10


def test_no_frame_is_shorter_than_20_ms(tmp_path):
    pictures = numpy.zeros((7, 2, 2, 3), 'u1')
    found = seen(write(tmp_path / 'a.gif', pictures, [5, 5, 5, 5, 5, 100, 100]))[1]
    assert found == [20, 20, 20, 20, 20, 20, 100]           # 75 of the 80 ms are made up for, 5 rounded off


def test_a_frame_of_hours_is_as_long_as_can_be(tmp_path):
    found = seen(write(tmp_path / 'a.gif', numpy.zeros((2, 2, 2, 3), 'u1'), [700_000, 100]))[1]
    assert found == [655_350, 44_750]


def test_nothing_is_left_behind(tmp_path):
    path = tmp_path / 'a.gif'
    picture = numpy.zeros((2, 3, 3), 'u1')
    with pytest.raises(ZeroDivisionError), GifWriter(path, (2, 3)) as gif:
        gif.add(picture, 100)
        1 / 0       # noqa: B018
    assert not list(tmp_path.iterdir())
    before = write(path, [picture], [100]).read_bytes()
    with pytest.raises(ValueError, match=r'\(3, 2, 3\)'), GifWriter(path, (2, 3)) as gif:
        gif.add(picture, 100)
        assert path.read_bytes() == before
        gif.add(picture.swapaxes(0, 1), 100)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_larger_than_a_gif_can_be(tmp_path):
    with pytest.raises(InputError, match='65535'):
        GifWriter(tmp_path / 'a.gif', (1, 65536))


MEMORY = '''
import resource
import sys
import numpy
from chainer_abn.datasets.frames import frames
from chainer_abn.explain.animation import GifWriter

def write_and_read(path, n):
    picture = numpy.add.outer(numpy.arange(240), numpy.arange(320))[..., None] * numpy.array([1, 2, 3])
    with GifWriter(path, (240, 320)) as gif:
        for i in range(n):
            gif.add((picture + i).astype('u1'), 40)
    assert sum(image.shape == (240, 320, 3) for image, _ in frames(path)) == n
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

few, many = (write_and_read(sys.argv[1], n) for n in (20, 400))
print(many - few)
'''


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='counts memory in kB, as on Linux')
def test_400_frames_take_no_more_memory_than_20(python, tmp_path):
    """One frame is 225 kB; 380 more would be 86 MB."""
    run = python('-c', MEMORY, tmp_path / 'a.gif')
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 4000
