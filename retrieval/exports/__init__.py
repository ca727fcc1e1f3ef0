"""A trained model in forms that other programs open: ONNX graphs and a transformers folder, each with a model card."""
