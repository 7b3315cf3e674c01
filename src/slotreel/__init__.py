"""slotreel: experiments on self-supervised object-centric learning in video."""

__version__ = "0.1.0"
