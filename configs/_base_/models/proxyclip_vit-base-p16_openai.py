# ProxyCLIP (ECCV 2024): DINO's features say which patches belong together. timm
# downloads their weights at the first use; to use a file, set
# model.encoder.last_block.source.pretrained=False and its checkpoint.
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        last_block=dict(
            type='mmtagclip.ProxyLastBlock',
            source=dict(
                type='mmtagclip.TimmFeatures', model='vit_base_patch8_224.dino', pretrained=True
            ),
            keep_grid=True,
        ),
        positions='bicubic_scale',
    ),
    head=dict(type='mmtagclip.SegTextHead', templates='templates_80', logit_scale=40.0),
    windows=dict(type='mmtagclip.SlidingWindows', size=336, stride=112),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
