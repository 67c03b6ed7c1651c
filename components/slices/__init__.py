"""Models of single slices: fitted, judged against the global model, kept or left out with the reason."""
