"""Shared by all tests. The package comes first: it prepares Chainer."""
import os
import subprocess
import sys
from pathlib import Path

import chainer_abn  # noqa: F401
import numpy
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture
def python():
    """Runs Python in a fresh process from the repository's root -> CompletedProcess."""
    def run(*arguments, cwd=ROOT, **environment):
        return subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
            env={**os.environ, **environment}, timeout=300)
    return run


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


@pytest.fixture
def class_folders(tmp_path):
    return write_class_folders(tmp_path / 'images')
