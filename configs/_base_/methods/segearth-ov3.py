# SegEarth-OV3 (2025): SAM 3 is asked for every class.
_base_ = './concepts.py'
model = dict(confidence=0.5)
