"""Several runs together: trained with the same seeds, compared, reported."""
