"""Gates that earn nothing, replaced by constants, with the effect of each step measured."""
