"""Step 2 of the train: rows that keep the data contract go on, the others into quarantine."""
