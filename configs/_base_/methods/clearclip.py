# ClearCLIP (ECCV 2024). Published with half precision on GPUs.
_base_ = './direct.py'
model = dict(
    encoder=dict(last_block=dict(type='mmtagclip.ClearCLIPLastBlock')),
    head=dict(logit_scale=50.0),
    windows=dict(size=448, stride=224),
)
