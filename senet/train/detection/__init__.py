"""Detection: images with boxes, losses of Faster and Mask R-CNN, average precision."""
