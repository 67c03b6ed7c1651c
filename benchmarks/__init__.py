"""One script a performance claim: both sides in one run, the ratio printed."""
