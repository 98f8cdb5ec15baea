# ExCEL's features without its training (CVPR 2025).
_base_ = './direct.py'
model = dict(encoder=dict(last_block=dict(type='mmtagclip.SVCLastBlock')))
