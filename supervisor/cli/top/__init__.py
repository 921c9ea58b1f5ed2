"""`top`: a live screen. Looking, deciding and drawing are apart, so that all but the looking is plain values."""
