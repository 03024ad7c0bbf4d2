"""Networks trained here, whose weights lie in the package, each with the record of its training."""
