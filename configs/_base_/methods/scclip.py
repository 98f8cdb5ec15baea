# SC-CLIP (2024).
_base_ = './direct.py'
model = dict(encoder=dict(last_block=dict(type='mmtagclip.SCCLIPLastBlock')))
