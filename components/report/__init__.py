"""The release report: one HTML file that a person reads, built from the records that the steps wrote."""
