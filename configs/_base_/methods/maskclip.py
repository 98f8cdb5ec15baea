# MaskCLIP (ECCV 2022): value-only, the image in one piece. Its program ran with GELU
# for QuickGELU, another eps and ImageNet's mean and std, by accident; not so here.
_base_ = './direct.py'
model = dict(
    encoder=dict(last_block=dict(type='mmtagclip.SelfOnlyLastBlock'), positions='bicubic'),
    head=dict(templates='templates_85'),
    windows=dict(_delete_=True, type='mmtagclip.WholeImage'),
)
