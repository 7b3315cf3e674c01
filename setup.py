"""Installation; tool settings are in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    name="slotreel",
    version="0.1.0",
    description="Experiments on self-supervised object-centric learning in video",
    license="MIT",
    package_dir={"": "src"},
    packages=[*find_packages("src"), "hydra_plugins.slotreel_sweeps"],  # a name space of Hydra's
    package_data={
        "slotreel": [
            "py.typed",
            "weights/*.safetensors",
            "weights/*.md",
            "reporting/templates/*",
        ],
    },
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",  # the build made for torch 2.6
        "timm>=1.0.9",
        "einops>=0.8",
        "hydra-core>=1.3.2,<1.4",  # 1.4 breaks instantiate and removes plugins
        "hydra-submitit-launcher>=1.2.0",
        "submitit>=1.5.2",
        "wandb>=0.31",  # finish_timeout_raises; older ones were not tried
        "scikit-learn>=1.3",
        "scipy>=1.10",
        "numpy>=1.26",
        "pillow>=10",
        "jinja2>=3.1",  # pages of scripts/report.py; torch brings it anyway
        "av>=12",  # wheels carry FFmpeg: reads and writes video without system packages
        "rich>=13",
        "safetensors>=0.4",
        "google-crc32c>=1.5",  # checksums of TFRecord files (MOVi); small, needs nothing
        "pycocotools>=2.0.8",  # fills COCO polygons as published; needs numpy alone
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "mypy>=1.11",
            "pre-commit>=3",
            "wandb-workspaces>=0.4.13",
            "opencv-python-headless>=4.8",  # what scripts/benchmark_metrics.py compares with
            "playwright>=1.45",  # drives Debian's chromium through a report; downloads none
        ],
        "tb": ["tensorboard>=2.16"],
        "dashboard": ["wandb-workspaces>=0.4.13"],  # scripts/make_dashboard.py
    },
)
