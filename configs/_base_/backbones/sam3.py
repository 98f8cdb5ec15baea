# For methods without a CLIP: SAM 3 reads images and words, and the method names its weights.
backbone = dict()
