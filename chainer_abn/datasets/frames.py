"""Videos and animations, frame by frame."""
import contextlib
import itertools
import os

import numpy
from PIL import Image

from chainer_abn.datasets.images import check_pixels, open_image, opening, to_rgb, too_many
from chainer_abn.errors import InputError
from chainer_abn.files import open_file

VIDEO_SUFFIXES = frozenset('.mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .ogv'.split())
# A file with one of these is opened to see whether it moves; any other is not, as most images are JPEG files.
PICTURE_SUFFIXES = frozenset('.gif .webp .png .apng'.split())
PICTURE_FORMATS = ('GIF', 'WEBP', 'PNG')
# Playlists may name other files and addresses; FFmpeg would follow them from a file of any name.
ONE_FILE = {'format_whitelist': 'mov,matroska,avi,mpeg,mpegts,ogg', 'protocol_whitelist': ''}
USUAL = 100                     # milliseconds of a frame that says nothing of its time


def is_animation(path):
    """Whether the file is a video, told by its suffix, or a GIF, WebP or PNG of more than one frame.

    Such a picture is told by its content, but only one of :data:`PICTURE_SUFFIXES` is opened.
    """
    suffix = _suffix(path)
    if suffix not in VIDEO_SUFFIXES | PICTURE_SUFFIXES or not os.path.isfile(path):
        return False
    if suffix in VIDEO_SUFFIXES:
        return True
    try:
        with open_image(path) as image:
            return image.format in PICTURE_FORMATS and image.is_animated
    except Exception:           # of broken data, whatever comes; reading it will say so
        return False


def frames(path):
    """Yield the frames of a video, GIF, WebP or PNG; only a few are in memory at a time.

    The frames of a picture are composed as Pillow does, laid over white where they are transparent. A video
    is turned as it says; its frames last until the next one, and are scaled to the size of the first
    if theirs is another. Sound is left out.

    Args:
        path: of the file; a video if it has one of :data:`VIDEO_SUFFIXES`, which needs PyAV
            (https://pyav.basswood-io.com).

    Yields:
        tuple: image (H, W, 3) uint8 RGB, all of one size; milliseconds it is shown, float, 100 where the
        file does not say.

    Raises:
        InputError: PyAV is missing; the file is missing or of no such kind; a frame is unreadable, larger
            than allowed, or missing at the end. File and frame, counted from 1, are named.
    """
    if _suffix(path) in VIDEO_SUFFIXES:
        return _until_the_next(_checked(path, _of_video(path)))
    return _checked(path, _of_picture(path))


def count(path):
    """Number of frames that the file claims; None if it does not. See :func:`frames`."""
    if _suffix(path) in VIDEO_SUFFIXES:
        with _open_video(path) as (_, stream):
            return stream.frames or None
    with opening(path), open_image(path) as image:
        return getattr(image, 'n_frames', 1) - _first(image)


def _suffix(path):
    return os.path.splitext(path)[1].lower()


def _checked(path, items):
    """What goes wrong with a frame is an InputError that names it."""
    n = 0
    try:
        for item in items:
            n += 1
            yield item
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f'{path}, frame {n + 1}: {too_many(error)}') from None
    except Exception as error:
        # Pillow's and FFmpeg's decoders raise whatever comes on broken data
        raise InputError(f'{path}, frame {n + 1}: unreadable ({_reason(error)})') from None
    if not n:
        raise InputError(f'{path}: no frame in it')


def _reason(error):
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__


def _of_picture(path):
    with contextlib.ExitStack() as stack:
        with opening(path):
            file = stack.enter_context(open_file(path))
            image = stack.enter_context(open_image(file))
        shape = None
        for n in itertools.count(_first(image)):
            try:
                image.seek(n)
            except EOFError:
                break
            check_pixels(*image.size)       # that of a GIF can grow
            picture = to_rgb(image)
            shape = shape or picture.shape
            # a GIF's frame may reach over its edge
            yield picture[:shape[0], :shape[1]], float(image.info.get('duration') or USUAL)
        if image.format == 'GIF':
            file.seek(-1, os.SEEK_CUR)
            whole = file.read(1) == b';'
        else:
            whole = n == getattr(image, 'n_frames', 1)
        if not whole:
            raise EOFError('the file ends early')


def _first(image):
    """1 for a PNG whose first image, for programs that show no animations, is not part of it; else 0."""
    return int(getattr(image, 'default_image', False))


@contextlib.contextmanager
def _open_video(path):
    """PyAV's container and video stream of a file."""
    try:
        import av
    except ImportError:
        raise InputError(f'{path}: a video needs PyAV: pip install av') from None
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(path))
            # not its `options`: PyAV 15 crashes on those with MPEG files
            container = stack.enter_context(av.open(file, container_options=ONE_FILE))
        except FileNotFoundError:
            raise InputError(f'{path}: no such file') from None
        except Exception as error:
            raise InputError(f'{path}: not a video ({_reason(error)})') from None
        stream = container.streams.best('video')
        if stream is None or stream.codec_context is None:
            raise InputError(f'{path}: no video in it that FFmpeg can decode')
        yield container, stream


def _of_video(path):
    """Yield image, milliseconds at which it comes (None: unknown) and how many it lasts if no other comes."""
    with _open_video(path) as (container, stream):
        check_pixels(stream.width, stream.height)
        usual = 1000 / float(stream.average_rate) if stream.average_rate else USUAL
        size, end = {}, 0
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != stream.index:
                continue
            for frame in packet.decode():
                if packet.is_corrupt or frame.is_corrupt:
                    raise ValueError('damaged')
                check_pixels(frame.width, frame.height)
                size = size or {'width': frame.width, 'height': frame.height}
                image = numpy.rot90(frame.to_ndarray(format='rgb24', **size), round(frame.rotation / 90))
                yield (numpy.ascontiguousarray(image), None if frame.time is None else frame.time * 1000,
                       float(frame.duration * frame.time_base) * 1000 or usual)
        # by a second: what files claim is not exact
        if container.duration and end < ((container.start_time or 0) + container.duration) / 1e6 - 1:
            raise EOFError('the file ends early')


def _until_the_next(items):
    """(image, start, usual duration) of frames -> (image, duration), the time to the next one's start."""
    held = None
    for item in items:
        if held:
            image, start, usual = held
            known = None not in (start, item[1]) and item[1] > start
            yield image, item[1] - start if known else usual
        held = item
    if held:
        image, _, usual = held
        yield image, usual
