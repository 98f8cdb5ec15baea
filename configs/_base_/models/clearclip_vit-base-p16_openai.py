# ClearCLIP (ECCV 2024). Published with half precision on GPUs.
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        last_block=dict(type='mmtagclip.ClearCLIPLastBlock'),
        positions='bicubic_scale',
    ),
    head=dict(type='mmtagclip.SegTextHead', templates='templates_80', logit_scale=50.0),
    windows=dict(type='mmtagclip.SlidingWindows', size=448, stride=224),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
