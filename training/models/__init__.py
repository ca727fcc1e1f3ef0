"""The encoders and the model that joins them. Importing this package makes timm and transformers importable."""

from training.models.compat import prepare_torchvision

prepare_torchvision()
