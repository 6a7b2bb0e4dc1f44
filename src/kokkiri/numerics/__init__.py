"""Tensors in, tensors out. Nothing here knows of networks, data sets or protocols."""
