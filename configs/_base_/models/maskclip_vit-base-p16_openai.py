# MaskCLIP (ECCV 2022): value-only, the image in one piece. Its program ran with GELU
# for QuickGELU, another eps and ImageNet's mean and std, by accident; not so here.
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        last_block=dict(type='mmtagclip.SelfOnlyLastBlock'),
        positions='bicubic',
    ),
    head=dict(type='mmtagclip.SegTextHead', templates='templates_85', logit_scale=40.0),
    windows=dict(type='mmtagclip.WholeImage'),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
