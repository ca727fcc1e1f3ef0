"""One thread, so that tests running side by side do not fight; no look-up of published models."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)
