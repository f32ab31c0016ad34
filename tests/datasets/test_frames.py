import struct
import sys
from fractions import Fraction

import numpy
import pytest
from PIL import GifImagePlugin, Image

from chainer_abn.datasets.frames import count, frames, is_animation
from chainer_abn.datasets.images import read_image
from chainer_abn.errors import InputError

R, G, B, W, K = RGBWK = numpy.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)], 'u1')


def gif(path, size, *parts):
    """Write a GIF of parts: (left, top), indices into RGBWK (h, w), and what getdata takes."""
    with open(path, 'wb') as file:
        file.write(struct.pack('<6sHH3x', b'GIF89a', *size))
        for offset, indices, options in parts:
            image = Image.fromarray(numpy.array(indices, 'u1'), 'P')
            image.putpalette(RGBWK.tobytes())
            file.write(b''.join(GifImagePlugin.getdata(image, offset, include_color_table=True, **options)))
        file.write(b';')
    return path


def three_frames(path):
    return gif(path, (4, 3), *(((0, 0), numpy.full((3, 4), i), {'duration': 50}) for i in range(3)))


def pictures(n=3, size=(3, 4)):
    return [Image.fromarray(numpy.full((*size, 3), RGBWK[i])) for i in range(n)]


def content(path):
    """Images and durations."""
    images, times = zip(*frames(path), strict=True)
    return numpy.array(images), list(times)


def test_frames_of_a_gif_are_composed(tmp_path):
    path = gif(tmp_path / 'a.gif', (3, 1),
               ((0, 0), [[0, 1, 2]], {'disposal': 1}),
               ((1, 0), [[3, 0]], {'disposal': 2, 'transparency': 3}),      # leaves transparency behind
               ((0, 0), [[2]], {'disposal': 3, 'transparency': 3}),         # leaves what was before it
               ((2, 0), [[1]], {'disposal': 1}))
    images, _ = content(path)
    numpy.testing.assert_array_equal(images, [[[R, G, B]], [[R, G, R]], [[B, W, W]], [[R, W, G]]])


def test_transparency_is_laid_over_white_from_the_first_frame_on(tmp_path):
    path = gif(tmp_path / 'a.gif', (2, 1), ((0, 0), [[4, 0]], {'transparency': 4}), ((0, 0), [[1, 1]], {}))
    images, _ = content(path)
    numpy.testing.assert_array_equal(images, [[[W, R]], [[G, G]]])
    numpy.testing.assert_array_equal(images[0], read_image(path))


def test_all_frames_have_the_size_of_the_first(tmp_path):
    path = gif(tmp_path / 'a.gif', (2, 1), ((0, 0), [[0, 1]], {}), ((1, 0), [[2, 2], [2, 2]], {}))
    images, _ = content(path)
    numpy.testing.assert_array_equal(images, [[[R, G]], [[R, B]]])


def test_times_of_a_gif(tmp_path):
    path = gif(tmp_path / 'a.gif', (1, 1), *(((0, 0), [[0]], options) for options in (
        {'duration': 30}, {'duration': 0}, {}, {'duration': 1270})))
    assert content(path)[1] == [30, 100, 100, 1270]
    assert count(path) == 4


@pytest.mark.parametrize('kind, options', [('png', {}), ('webp', {'lossless': True})])
def test_png_and_webp(tmp_path, kind, options):
    path = tmp_path / f'a.{kind}'
    first, *others = (picture.convert('RGBA') for picture in pictures(3))
    others[0].putpixel((1, 0), (0, 0, 0, 0))
    first.save(path, save_all=True, append_images=others, duration=[40, 70, 200], disposal=1, blend=0,
               **options)
    images, times = content(path)
    expected = numpy.array([numpy.full((3, 4, 3), colour) for colour in (R, G, B)])
    expected[1, 0, 1] = W
    numpy.testing.assert_array_equal(images, expected)
    assert times == [40, 70, 200]
    assert count(path) == 3


def test_the_picture_of_a_png_that_is_not_part_of_the_animation_is_left_out(tmp_path):
    path = tmp_path / 'a.png'
    first, *others = pictures(3)
    first.save(path, save_all=True, append_images=others, default_image=True, duration=40)
    images, _ = content(path)
    numpy.testing.assert_array_equal(images[:, 0, 0], [G, B])
    assert count(path) == 2


def test_a_still_is_one_frame(tmp_path):
    path = tmp_path / 'a.png'
    pictures()[1].save(path)
    images, times = content(path)
    numpy.testing.assert_array_equal(images, [read_image(path)])
    assert times == [100]
    assert count(path) == 1


def test_what_is_an_animation(tmp_path):
    first, *others = pictures(3)
    for name in ('moves.gif', 'moves.png', 'moves.apng', 'moves.webp', 'pages.tif', 'moves.jpg'):
        form = {'apng': 'PNG', 'jpg': 'GIF'}.get(name.rpartition('.')[2])
        first.save(tmp_path / name, form, save_all=True, append_images=others)
    for name in ('still.gif', 'still.png', 'still.webp', 'still.jpg'):
        first.save(tmp_path / name)
    (tmp_path / 'pages.png').write_bytes((tmp_path / 'pages.tif').read_bytes())
    (tmp_path / 'text.gif').write_text('text')
    (tmp_path / 'film.MP4').write_text('told by its suffix')
    moving = {path.name for path in tmp_path.iterdir() if is_animation(path)}
    assert moving == {'moves.gif', 'moves.png', 'moves.apng', 'moves.webp', 'film.MP4'}
    assert is_animation(str(tmp_path / 'moves.gif'))
    assert not is_animation(tmp_path / 'missing.gif')


def test_a_gif_that_is_cut_anywhere_is_refused(tmp_path):
    data = three_frames(tmp_path / 'a.gif').read_bytes()
    cut = tmp_path / 'cut.gif'
    for n in range(len(data)):
        cut.write_bytes(data[:n])
        with pytest.raises(InputError, match='cut.gif'):
            content(cut)


@pytest.mark.parametrize('kind', ['png', 'webp'])
def test_a_png_or_webp_that_is_cut_is_refused(tmp_path, kind):
    first, *others = pictures(3, (40, 40))
    first.save(tmp_path / f'a.{kind}', save_all=True, append_images=others)
    data = (tmp_path / f'a.{kind}').read_bytes()
    cut = tmp_path / f'cut.{kind}'
    for n in range(0, len(data) - 20, 5):           # a PNG's last 20 bytes are checksums and its end mark
        cut.write_bytes(data[:n])
        with pytest.raises(InputError, match='cut'):
            content(cut)


def test_a_damaged_frame_is_named(tmp_path):
    path = three_frames(tmp_path / 'a.gif')
    data = path.read_bytes()
    start = data.index(b',', data.index(b',', 13) + 1)
    start += 10 + 3 * 8 + 2                         # descriptor, palette, size of codes and of the block
    path.write_bytes(data[:start] + b'\xff' * 4 + data[start + 4:])
    seen = frames(path)
    assert (next(seen)[0] == R).all()
    with pytest.raises(InputError, match=r'a\.gif, frame 2: unreadable \('):
        next(seen)


def test_files_that_are_no_animation(tmp_path):
    (tmp_path / 'text.gif').write_text('text')
    for name, reason in (('text.gif', 'not an image'), ('missing.gif', 'no such file')):
        for read in (content, count):
            with pytest.raises(InputError, match=f'{name}: {reason}'):
                read(tmp_path / name)


def test_the_limit_of_pixels(tmp_path, monkeypatch):
    path = three_frames(tmp_path / 'a.gif')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 12)
    assert len(content(path)[1]) == 3
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 11)
    for read in content, count:
        with pytest.warns(Image.DecompressionBombWarning), \
                pytest.raises(InputError, match=r'a\.gif: claims .* 4 x 3 = 12 pixels.* the limit is 11'):
            read(path)


def test_the_limit_of_pixels_of_a_gif_that_grows(tmp_path, monkeypatch):
    path = three_frames(tmp_path / 'a.gif')
    data = bytearray(path.read_bytes())
    second = data.index(b',', data.index(b',', 13) + 1)
    data[second + 5:second + 9] = struct.pack('<HH', 5000, 5000)
    path.write_bytes(data)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 12)
    seen = frames(path)
    assert (next(seen)[0] == R).all()
    with pytest.raises(InputError, match=r'a\.gif, frame 2: claims to have 2\d* pixels.* the limit is 12'):
        next(seen)


def noise(n, size=(16, 24)):
    return numpy.random.default_rng(0).integers(0, 256, (n, *size, 3), 'u1')


def video(path, images, codec='png', form='rgb24', times=None, **options):
    """Write a video of images, which come at ``times`` (milliseconds; default every 200)."""
    av = pytest.importorskip('av', reason='needs PyAV')
    unit = Fraction(1, 1000)
    with av.open(str(path), 'w', container_options=options) as container:
        stream = container.add_stream(codec, rate=5)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = form
        stream.time_base = stream.codec_context.time_base = unit if times else Fraction(1, 5)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            frame.pts, frame.time_base = (times[i], unit) if times else (i, Fraction(1, 5))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize('name, codec, form', [
    ('a.mov', 'png', 'rgb24'), ('a.mkv', 'ffv1', 'bgr0'), ('a.avi', 'ffv1', 'bgr0')])
def test_a_video(tmp_path, name, codec, form):
    path = video(tmp_path / name, noise(6), codec, form)
    images, times = content(path)
    numpy.testing.assert_array_equal(images, noise(6))
    numpy.testing.assert_allclose(times, [200] * 6)
    assert count(path) == (None if name == 'a.mkv' else 6)


@pytest.mark.parametrize('name, codec', [
    ('a.mp4', 'mpeg4'), ('a.m4v', 'mpeg4'), ('a.webm', 'libvpx'), ('a.mpg', 'mpeg2video'),
    ('a.ogv', 'libvpx')])
def test_other_containers(tmp_path, name, codec):
    av = pytest.importorskip('av', reason='needs PyAV')
    grey = numpy.repeat(numpy.arange(40, 240, 20), 32 * 32 * 3).reshape(10, 32, 32, 3).astype('u1')
    with av.open(str(tmp_path / name), 'w') as container:
        stream = container.add_stream(codec, rate=25)
        stream.height = stream.width = 32
        stream.pix_fmt = 'yuv420p'
        for image in grey:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        container.mux(stream.encode())
    images, times = content(tmp_path / name)
    assert numpy.abs(images.astype(int) - grey).max() <= 12
    numpy.testing.assert_allclose(times, [40] * 10, atol=1)         # WebM counts milliseconds


def test_a_frame_of_a_video_lasts_until_the_next(tmp_path):
    path = video(tmp_path / 'a.mkv', noise(5), 'ffv1', 'bgr0', times=[0, 40, 100, 1000, 1033])
    assert content(path)[1][:4] == pytest.approx([40, 60, 900, 33])


@pytest.mark.parametrize('matrix, turned', [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_video_is_turned_as_it_says(tmp_path, matrix, turned):
    path = video(tmp_path / 'a.mov', noise(2))
    a, b, c, d = (value << 16 for value in matrix)
    upright = struct.pack('>9i', 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    track = data.index(b'tkhd')
    assert data.count(upright, track) == 1
    turn = struct.pack('>9i', a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:track] + data[track:].replace(upright, turn))
    images, _ = content(path)
    numpy.testing.assert_array_equal(images, numpy.rot90(noise(2), turned, (1, 2)))


def test_a_video_whose_size_changes_keeps_the_first(tmp_path):
    first = video(tmp_path / 'a.mpg', numpy.full((8, 32, 48, 3), 90, 'u1'), 'mpeg2video', 'yuv420p')
    then = video(tmp_path / 'b.mpg', numpy.full((8, 64, 64, 3), 180, 'u1'), 'mpeg2video', 'yuv420p')
    path = tmp_path / 'c.mpg'
    path.write_bytes(first.read_bytes() + then.read_bytes())
    images, times = content(path)
    assert images.shape[1:] == (32, 48, 3)
    assert abs(int(images[0].mean()) - 90) < 5 and abs(int(images[-1].mean()) - 180) < 5
    assert min(times) > 0


def test_a_video_that_is_cut_is_refused(tmp_path, capfd):
    path = video(tmp_path / 'a.mov', noise(20), movflags='faststart')
    data = path.read_bytes()
    cut = tmp_path / 'cut.mov'
    for share in (0, 0.01, 0.3, 0.5, 0.7):
        cut.write_bytes(data[:int(share * len(data))])
        with pytest.raises(InputError, match=r'cut\.mov'):
            content(cut)
    with pytest.raises(InputError, match=r'cut\.mov, frame 1\d: unreadable'):
        content(cut)
    assert capfd.readouterr() == ('', '')


def test_a_video_that_ends_between_two_frames_is_refused(tmp_path):
    path = video(tmp_path / 'a.mkv', noise(20), 'ffv1', 'bgr0')
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(InputError, match=r'a\.mkv, frame \d+: unreadable \(the file ends early\)'):
        content(path)


def test_a_damaged_frame_of_a_video_is_named(tmp_path, capfd):
    path = video(tmp_path / 'a.mov', noise(5))
    data = path.read_bytes()
    start = [i for i in range(len(data)) if data.startswith(b'IHDR', i)][2]
    path.write_bytes(data[:start] + bytes(600) + data[start + 600:])
    with pytest.raises(InputError, match=r'a\.mov, frame 3: unreadable \(') as error:
        content(path)
    assert '\n' not in str(error.value)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('text', [
    'ffconcat version 1.0\nfile a.mov\n', 'file a.mov\n',
    '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mov\n#EXT-X-ENDLIST\n', 'text', ''])
def test_a_playlist_is_no_video(tmp_path, monkeypatch, text):
    video(tmp_path / 'a.mov', noise(2))
    (tmp_path / 'list.mp4').write_text(text)
    monkeypatch.chdir(tmp_path)
    for read in (content, count):
        with pytest.raises(InputError, match=r'^list\.mp4: not a video \('):
            read('list.mp4')


def test_sound_alone_is_no_video(tmp_path):
    av = pytest.importorskip('av', reason='needs PyAV')
    path = tmp_path / 'a.mkv'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
        frame = av.AudioFrame.from_ndarray(numpy.zeros((1, 800), 'i2'), 's16', 'mono')
        frame.rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r'a\.mkv: no video in it'):
        content(path)


def test_the_limit_of_pixels_of_a_video(tmp_path, monkeypatch):
    path = video(tmp_path / 'a.mov', noise(2))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 16 * 24)
    assert len(content(path)[1]) == 2
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 16 * 24 - 1)
    with pytest.raises(InputError, match=r'a\.mov, frame 1: claims to have 24 x 16 = 384 .* limit is 383'):
        content(path)


def test_a_video_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(InputError, match=r'a\.mp4: a video needs PyAV: pip install av'):
        content(tmp_path / 'a.mp4')


def test_a_missing_video(tmp_path):
    pytest.importorskip('av', reason='needs PyAV')
    with pytest.raises(InputError, match=r'a\.mp4: no such file'):
        content(tmp_path / 'a.mp4')
