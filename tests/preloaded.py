"""Imported once, by the process that others are forked from: all that a tiny run imports."""

import torch
import torch._dynamo  # by optimizers, which take seconds for it

from slotreel.assemble import build_objective
from tests import running

torch.set_num_threads(1)
build_objective(running.composed("train", *running.TINY))
