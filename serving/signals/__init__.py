"""Where the evidence of a release comes from."""
