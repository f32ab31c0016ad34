"""Chainer 7.8.1 exists only as a source archive that builds with setuptools<81:
install through the Makefile, or as README.md says under "Install"."""
import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r"__version__ = '(.+)'", (here / 'chainer_abn/version.py').read_text()).group(1)

setup(
    name='chainer-abn',
    version=version,
    description='Attention Branch Network in Chainer: learn what is in an image and where to look',
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='MIT',
    python_requires='>=3.10,<3.14',
    packages=find_packages(include=['chainer_abn', 'chainer_abn.*']),
    package_data={'chainer_abn.functions': ['attention.cu']},
    install_requires=[
        'chainer==7.8.1',
        'numpy>=2.0',
        'matplotlib>=3.8',
        'pillow>=10.0',
        'scikit-learn>=1.4',
        'scipy>=1.11',
        # the CPU's convolutions; there is no such wheel for other systems, which do without
        'onednn-cpu-gomp==2023.2.0; platform_system == "Linux" and platform_machine == "x86_64"',
        'threadpoolctl>=3.1',
    ],
    extras_require={
        # chainer.gradient_check imports pkg_resources (setuptools); onnx: the remedies for onnx_chainer
        'test': ['av>=15', 'hypothesis>=6.100', 'onnx', 'pytest>=8', 'pytest-xdist>=3.6', 'ruff',
                 'setuptools<81', 'tensorboardX>=2.6.4'],
        'fuzz': ['atheris>=2.3'],
        # tests of the GPU's code where there is none (tests/emulator), and both compilers of its kernels
        'test-gpu': ['cupy-cuda13x>=14', 'nvidia-cuda-runtime==13.*', 'nvidia-cuda-nvrtc==13.*',
                     'nvidia-cuda-nvrtc-cu12'],
        'cuda12': ['cupy-cuda12x[ctk]>=14', 'nvidia-cudnn-cu12>=9'],
        'cuda13': ['cupy-cuda13x[ctk]>=14', 'nvidia-cudnn-cu13>=9'],
        'tensorboard': ['tensorboardX>=2.6.4'],
        'torch': ['torch>=2.0'],
        'video': ['av>=15'],
        'mpi': ['mpi4py>=4', 'mpich'],
    },
)
