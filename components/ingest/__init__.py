"""Step 1 of the train: the raw rows of every source, as found."""
