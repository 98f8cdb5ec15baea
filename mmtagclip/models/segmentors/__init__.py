"""Training-free segmentors and their parts."""
