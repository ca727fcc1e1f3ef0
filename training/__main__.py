"""``python -m training RECIPE ...``: wavtext5k-train, in the form that torchrun starts."""

from training.cli import train_main

train_main()
