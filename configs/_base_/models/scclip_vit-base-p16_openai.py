# SC-CLIP (2024).
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        last_block=dict(
            type='mmtagclip.SCCLIPLastBlock',
            similarity_layer=8,
            output_layer=3,
            fusion_layers=(3, 4, 5, 6, 7, 8, 9),
            class_token_weight=0.3,
        ),
        positions='bicubic_scale',
    ),
    head=dict(type='mmtagclip.SegTextHead', templates='templates_80', logit_scale=40.0),
    windows=dict(type='mmtagclip.SlidingWindows', size=224, stride=112),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
