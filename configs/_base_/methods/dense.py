# Each tower's own patch features: value-only where it is pooled by a class token, the pool read
# patch by patch where it is pooled by attention, the map of a convolutional tower. MaskCLIP's
# protocol.
_base_ = './maskclip.py'
model = dict(encoder=dict(last_block=None, positions=None))
