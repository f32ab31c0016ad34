"""What several test files use."""
from pathlib import Path

import numpy
from PIL import Image

ROOT = Path(__file__).parents[1]


def write_class_folders(root, n_per_class=6, classes=('ant', 'bee'), size=(40, 32), seed=0):
    """Class folders of small PNG files whose classes differ in colour."""
    rng = numpy.random.default_rng(seed)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(n_per_class):
            pixels = rng.integers(0, 80, (*size, 3))
            pixels[..., label % 3] += 160
            Image.fromarray(pixels.astype('u1')).save(root / name / f'{i}.png')
    return root


def runs(process):
    """Whether there is a process of this number that has not ended."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False
