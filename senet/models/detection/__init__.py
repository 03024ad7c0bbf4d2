"""Detectors: Faster and Mask R-CNN on torchvision's heads, over our networks as backbones."""
